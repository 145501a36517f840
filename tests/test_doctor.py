"""What ``cuse-crypto doctor`` says of the host's driver."""

import subprocess
from pathlib import Path

import pytest

from cuse_crypto.cli import doctor
from cuse_crypto.cli.options import described
from cuse_crypto.linux import modules


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a driver that is loaded, and whose file modinfo(8) does not find."""
    monkeypatch.setattr(modules, "MODULES", tmp_path)
    monkeypatch.setattr(subprocess, "run", nothing)
    folder = tmp_path / "cryptodev"
    folder.mkdir()
    return folder


def nothing(*arguments: object, **options: object) -> None:
    raise FileNotFoundError


@pytest.mark.parametrize("version", ["1.9", "1.14", "1.14-2", "0.9"])
def test_faulty_versions(module: Path, version: str) -> None:
    (module / "version").write_text(f"{version}\n")
    problem = doctor._host_driver()
    assert problem
    assert f"cryptodev-linux {version} has memory faults; use --engine openssl" in problem


@pytest.mark.parametrize("version", ["1.15", "2.0"])
def test_later_versions(module: Path, version: str) -> None:
    (module / "version").write_text(version)
    assert doctor._host_driver() is None


def test_a_version_that_is_not_told(module: Path) -> None:
    problem = doctor._host_driver()
    assert problem
    assert "does not tell its version" in problem
    assert "; use --engine openssl" in problem


def test_what_modinfo_says(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert words == ["modinfo", "-F", "version", "cryptodev"]
        return subprocess.CompletedProcess(words, 0, stdout="1.12\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert modules.version("cryptodev") == "1.12"


def test_a_device_without_the_driver(module: Path) -> None:
    """It is served by another program."""
    module.rmdir()
    assert doctor._host_driver() is None


def test_ready_says_whose_driver_it_is() -> None:
    assert described("cryptodev") == "cryptodev, host driver"
    assert described("openssl") == "openssl"
