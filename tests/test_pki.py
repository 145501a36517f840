"""Certificates from the command line, and what the two halves say of those they cannot use."""

import json
import stat
from pathlib import Path

import pytest

from cuse_crypto.cli import authority
from tests.conftest import Service, fresh_name, start
from tests.test_cli import one_line, run

HOST = "127.0.0.1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pki"
    authority.found(made)
    return made


def issue(folder: Path, role: str, days: int = 90) -> str:
    return str(authority.issue(folder, f"{role}{days}", role, [HOST], days))


def test_the_commands(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    assert "ca.key" in run("pki", "init", str(pki)).stdout
    assert stat.S_IMODE((pki / "ca.key").stat().st_mode) == 0o600
    for name, role in (("east", "backend"), ("web", "device")):
        words = ["pki", "issue", str(pki), name, "--role", role, "--host", HOST, "--host", "a.b"]
        done = run(*words)
        assert f"cuse-crypto {role} --pki {name}" in done.stdout
        assert stat.S_IMODE((pki / name / "tls.key").stat().st_mode) == 0o600
    assert run("pki", "issue", str(pki), "old", "--role", "device", "--days", "7").returncode == 0
    listed = {row["name"]: row for row in json.loads(run("pki", "show", str(pki), "--json").stdout)}
    assert set(listed) == {"authority", "east", "web", "old"}
    assert (listed["east"]["role"], listed["east"]["hosts"]) == ("backend", [HOST, "a.b"])
    remarks = [listed[name]["remark"] for name in ("authority", "east", "old")]
    assert remarks == ["", "", "expires soon"]
    assert "expires soon" in run("pki", "show", str(pki)).stdout


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["show", "{none}"], "cuse-crypto pki init"),
        (["issue", "{none}", "x", "--role", "device"], "cuse-crypto pki init"),
        (["issue", "{pki}", "../x", "--role", "device"], "choose another one"),
        (["issue", "{pki}", "ä", "--role", "device"], "--host"),
        (["init", "{pki}"], "another folder"),
    ],
)
def test_what_cannot_be(folder: Path, words: list[str], remedy: str) -> None:
    places = {"pki": folder, "none": folder / "none"}
    assert remedy in one_line(run("pki", *(word.format(**places) for word in words)))
    assert sorted(path.name for path in folder.iterdir()) == ["ca.crt", "ca.key"]


def test_back_ends_that_do_not_start(folder: Path, tmp_path: Path) -> None:
    def said(address: str, *words: str) -> str:
        return one_line(run("backend", "--listen", address, "--engine", "null", *words))

    assert "give --pki" in said("tcp:0.0.0.0:0")
    assert "expired on" in said(f"tcp:{HOST}:0", "--pki", issue(folder, "backend", -1))
    assert "No such file" in said(f"tcp:{HOST}:0", "--pki", str(tmp_path / "none"))
    assert "--tls-key" in said(f"tcp:{HOST}:0", "--tls-cert", "x")
    made = Path(issue(folder, "backend"))
    (made / "tls.key").chmod(0o644)
    assert "chmod 0600" in said(f"tcp:{HOST}:0", "--pki", str(made))
    assert "QEMU" in said("virtio:cuse-crypto")


@pytest.fixture
def backend(folder: Path) -> Service:
    return start("backend", "--listen", f"tcp:{HOST}:0", "--pki", issue(folder, "backend", 20))


@pytest.mark.node
def test_a_device_over_tls(backend: Service, folder: Path, node_kind: str) -> None:
    """Both as real processes, confined; the certificate of one ends soon, which it says."""
    from cuse_crypto import CryptoDevice

    address = backend.ready.split()[1]
    name = fresh_name()
    words = ["device", "--backend", address, "--name", name, "--node", node_kind, "--pki"]
    device = start(*words, issue(folder, "device"))
    try:
        with CryptoDevice(f"/dev/{name}") as opened:
            assert opened.hash("md5", b"abc").hexdigest() == "900150983cd24fb0d6963f7d28e17f72"
    finally:
        assert device.stop() == 0
        refused = run(*words, issue(folder, "backend"))
        backend.stop()
    assert "not for this side" in one_line(refused)
    assert "expires in 19 days" in backend.said()
    assert backend.said().count("refused 127.0.0.1: ") == 1
