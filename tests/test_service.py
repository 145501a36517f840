"""The service: its files by the word of systemd's own tools, and all of it in a virtual machine."""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from cuse_crypto.cli import configuration
from cuse_crypto.errors import Failure
from cuse_crypto.service import files, installation, systemd
from cuse_crypto.service.program import Program
from tests import systemd_container, systemd_machine
from tests.conftest import HERE, Compile
from tests.dying import resends
from tests.test_cli import one_line, run

BOOT = 900.0
EXPOSURE = {"cuse-crypto-backend.service": 1.5, "cuse-crypto-device@cryptodev0.service": 4.0}


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the units as they would be installed here, and an instance of each template."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze: Debian package systemd")
    for file in files.units(Program.own()):
        name = file.path.name
        (tmp_path / name).write_text(file.text)
        for template, instance in (("device@.", "device@cryptodev0."), ("end@.", "end@quick.")):
            if template in name:
                (tmp_path / name.replace(template, instance)).write_text(file.text)
    return tmp_path


def analyze(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_COLORS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout + done.stderr


def test_units_are_right(units: Path) -> None:
    names = [str(path) for path in units.iterdir() if "@." not in path.name]
    assert len(names) == 6
    assert analyze("verify", "--man=no", *names, folder=units) == ""


@pytest.mark.parametrize(("name", "most"), EXPOSURE.items())
def test_units_leave_little_open(units: Path, name: str, most: float) -> None:
    said = analyze("security", "--offline=true", "--no-pager", str(units / name), folder=units)
    found = re.search(rf"exposure level for {re.escape(name)}: ([0-9.]+)", said)
    assert found
    assert float(found[1]) <= most, said


def test_units_know_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(("/root/a venv/bin/100%", "-m", "x"), (Path("/root/a venv"), Path("/opt/y")))
    text = next(one.text for one in files.units(program) if one.path.name == files.DEVICE)
    line = 'ExecStart="/root/a venv/bin/100%%" -m x --config /etc/cuse-crypto.toml device --name %i'
    assert line in text.splitlines()
    assert 'ProtectHome=tmpfs\nBindReadOnlyPaths="/root/a venv"\n' in text
    outside = Program(("/opt/y/bin/cuse-crypto",), (Path("/opt/y"), Path("/usr")))
    text = next(one.text for one in files.units(outside) if one.path.name == files.DEVICE)
    assert "ProtectHome=yes\nProtectClock" in text
    assert files.CONFIGURATION == configuration.DEFAULT
    for file in files.units(outside):
        assert not re.search("@[A-Z]+@", file.text), file.path


def test_a_program_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(Failure, match="who may write there would become root; install"):
        Program((), (tmp_path,)).check_owners()
    tmp_path.chmod(0o700)
    with pytest.raises(Failure, match=r"closed to the user cuse-crypto; chmod o\+rx"):
        Program((), (tmp_path,)).check_access()


def test_rules_say_what_the_devices_are_told() -> None:
    table = {"group": "crypto", "mode": 0o640, "cryptodev1": {"mode": "0666", "workers": 3}}
    lines = files.rules(table).splitlines()
    assert lines[-2:] == [
        'SUBSYSTEM=="cuse", KERNEL=="cryptodev*", OWNER="root", GROUP="crypto", MODE="0640"',
        'SUBSYSTEM=="cuse", KERNEL=="cryptodev1", OWNER="root", GROUP="crypto", MODE="0666"',
    ]


def test_what_mounts_is_seen_by_others() -> None:
    def folders(table: dict[str, Any]) -> list[str]:
        found = (one.path for one in files.others({"device": table}))
        return [path.parent.name for path in found if path.name == "mounts.conf"]

    assert folders({"node": "cuse"}) == []
    assert folders({"node": "mounted"}) == ["cuse-crypto-device@.service.d"]
    assert folders({"node": "cuse", "status": "off"}) == []
    assert folders({"node": "cuse", "status": "auto"}) == ["cuse-crypto-device@.service.d"]
    only = {"node": "cuse", "cryptodev3": {"node": "mounted"}}
    assert folders(only) == ["cuse-crypto-device@cryptodev3.service.d"]


@pytest.mark.parametrize("command", ["install", "remove", "status"])
def test_no_systemd(command: str) -> None:
    if systemd.RUNNING.exists():
        pytest.skip("systemd runs here")
    said = one_line(run("service", command))
    assert said.startswith("cuse-crypto: systemd does not run here (")
    assert said.endswith("; use cuse-crypto up")


def test_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure, match="run it as root"):
        systemd.check_root()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is recorded, is recorded there."""
    monkeypatch.setattr(installation, "RECORD", tmp_path / "lib" / "installed.json")
    return tmp_path


def test_only_what_was_made_is_removed(elsewhere: Path) -> None:
    (elsewhere / "old").mkdir()
    ours, deep = elsewhere / "old" / "ours", elsewhere / "new" / "folder" / "ours"
    record = installation._Record.read()
    record.write(files.File(ours, "1"))
    record.write(files.File(deep, "2"))
    record.write(files.File(ours, "3"))
    assert (ours.read_text(), stat.S_IMODE(ours.stat().st_mode)) == ("3", 0o644)
    foreign = elsewhere / "old" / "foreign"
    foreign.write_text("not ours")
    with pytest.raises(Failure, match="foreign is there and not ours; move it away"):
        record.write(files.File(foreign, "4"))
    later = installation._Record.read()
    later.forget_others([files.File(ours, "5")])
    assert not deep.exists()
    assert installation._Record.read().remove_files(set()) == [ours]
    later.remove()
    assert [path.relative_to(elsewhere) for path in elsewhere.rglob("*")] == [
        Path("old"),
        Path("old/foreign"),
    ]


def test_nothing_to_remove(elsewhere: Path) -> None:
    with pytest.raises(Failure, match="not installed; nothing to remove"):
        installation.remove(keep_configuration=False, say=print)


@pytest.mark.vm
def test_in_a_virtual_machine(compile_c: Compile) -> None:
    """With a cuse node and udev."""
    reason = systemd_machine.why_not()
    if reason:
        pytest.skip(reason)
    with systemd_machine.machine() as machine:
        before, seen = _lived(machine, _steady(compile_c), "cuse")
    _check(before, seen, "c", unnoticed=False)


@pytest.mark.node
def test_in_a_container(compile_c: Compile) -> None:
    """With a mounted node, under this kernel."""
    reason = systemd_container.why_not()
    if reason:
        pytest.skip(reason)
    with systemd_container.container() as container:
        before, seen = _lived(container, _steady(compile_c), "mounted")
    _check(before, seen, "-", unnoticed=resends())


class Boots(Protocol):
    """A machine or a container."""

    def boot(self, command: str, *, timeout: float) -> subprocess.CompletedProcess[str]: ...


def _steady(compile_c: Compile) -> Path:
    return compile_c(HERE / "c" / "steady.c", "-Wl,--no-as-needed", "-lcrypto")


def _lived(system: Boots, steady: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Installed, booted, used, its back end taken away and given back, removed: what was there
    before, and what was seen.
    """
    program = Program.own()
    flags = [] if _is_roots(program) else ["--any-owner"]

    def boot(phase: str, *arguments: str) -> dict[str, Any]:
        guest = [sys.executable, "-I", "-S", str(HERE / "service_guest.py"), phase]
        done = system.boot(shlex.join([*guest, program.command[0], *arguments]), timeout=BOOT)
        assert done.returncode == 0, done.stdout
        seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return seen

    before = boot("install", kind, *flags)["before"]
    return before, boot("serve", str(steady))


def _check(before: dict[str, Any], seen: dict[str, Any], kind: str, *, unnoticed: bool) -> None:
    assert re.match(kind + r"rw-rw---- 1 root crypto .* /dev/cryptodev0\n", seen["node"])
    assert seen["stranger"] == "EACCES"
    _worked(seen["member"])
    # Killed and stopped back ends are missed by nobody.
    _worked(seen["through"])
    # Without any, the device stays, and says so.
    assert (seen["alone"], seen["same"]) == ("ENODEV", True)
    _worked(seen["again"])
    # Killed itself, it is there again, and systemd has kept what its open files need.
    _worked(seen["anew"])
    assert seen["survived"]["wrong"] == 0
    if unnoticed:
        _worked(seen["survived"])
    (entry, *_) = seen["log"]
    assert entry["CRYPTO_DEVICE"] == "cryptodev0"
    assert entry["CRYPTO_UID"] == str(seen["uid"])
    assert entry["CRYPTO_PID"].isdecimal()
    states = {row["unit"]: row for row in seen["status"]}
    device = states["cuse-crypto-device@cryptodev0.service"]
    assert (device["state"], device["restarts"]) == ("active (running)", 1)
    assert device["says"].startswith("/dev/cryptodev0 (")
    assert seen["users"] == []
    for name, was in before.items():
        now = seen["after"][name]
        assert (sorted(set(now) - set(was)), sorted(set(was) - set(now))) == ([], []), name


def _is_roots(program: Program) -> bool:
    try:
        program.check_owners()
    except Failure:
        return False
    return True


def _worked(figures: dict[str, Any]) -> None:
    assert figures["operations"] > 0
    assert figures["wrong"] == 0
    assert not figures["errors"], figures
