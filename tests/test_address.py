"""Addresses, and Unix sockets as they lie in the file system."""

import os
import stat
from pathlib import Path

import pytest

from cuse_crypto.errors import Failure
from cuse_crypto.wire.address import Address


@pytest.mark.parametrize("text", ["", "unix", "unix:", "tcpp:1", "/run/x.sock", ":x"])
def test_no_address(text: str) -> None:
    with pytest.raises(Failure, match="unix:/"):
        Address.parse(text)


def test_listen_and_connect(tmp_path: Path) -> None:
    address = Address.parse(f"unix:{tmp_path}/s")
    with address.listen() as listener:
        assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
        address.connect(1).close()
        with pytest.raises(Failure, match="another back end"):
            address.listen()
        listener.accept()[0].close()
    # What a killed back end left behind is replaced.
    with address.listen():
        pass
    address.clean()
    assert not (tmp_path / "s").exists()
    with pytest.raises(FileNotFoundError):
        address.connect(1)


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(Failure, match="no socket"):
        Address.parse(f"unix:{tmp_path}/s").listen()
    assert (tmp_path / "s").read_text() == "precious"


def test_long_path(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="107 bytes"):
        Address.parse(f"unix:{tmp_path}/{'x' * 108}").listen()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="No such file"):
        Address.parse(f"unix:{tmp_path}/none/s").listen()
