"""What tests/test_service.py has done inside the guest that systemd boots: one phase a boot.

    python service_guest.py PHASE PROGRAM STEADY

Alone in its process: only the standard library, for everything takes long there. Prints one line of
JSON: what was seen.
"""

import contextlib
import errno
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

NODE = Path("/dev/cryptodev0")
DEVICE = "cuse-crypto-device@cryptodev0.service"
BACKEND, SOCKET = "cuse-crypto-backend.service", "cuse-crypto-backend.socket"
CONFIGURATION = Path("/etc/cuse-crypto.toml")
WAIT = 300.0
REWRITTEN = "passwd", "group", "shadow", "gshadow", "subuid", "subgid"
"""With every change of a user, and back again."""


def run(*command: str, check: bool = True) -> str:
    """What it says on both outputs."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"{time.monotonic() - began:.1f} s: {' '.join(command)}", flush=True)
    if check and done.returncode:
        sys.exit(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def eventually(condition: Callable[[], bool], what: str) -> float:
    """Wait until it holds; how many seconds that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > WAIT:
            print(run("systemctl", "status", "--no-pager", "cuse-crypto*", check=False))
            print(run("journalctl", "-b", "--no-pager", "-n", "60", check=False))
            sys.exit(f"{what} did not come about")
        time.sleep(0.05)
    return time.monotonic() - began


def snapshot() -> dict[str, Any]:
    """What an installation may not leave traces in."""
    return {
        "etc": _etc(),
        "loaded": sorted(
            line.split()[0]
            for line in run(
                *("systemctl", "list-units", "--all", "--plain", "--no-pager", "--no-legend")
            ).splitlines()
            # systemd's own, for loading modules: there in every ordinary machine.
            if not line.startswith("system-modprobe.slice")
        ),
        "run": sorted(map(str, [*Path("/run").glob("*"), *Path("/run/systemd/system").rglob("*")])),
        "dev": _dev(),
        "state": sorted(map(str, Path("/var/lib").glob("*"))),
    }


def _etc() -> list[str]:
    """Each file with its mode, time and target; of what is rewritten, what it says."""
    said = "%p %m %T@ %l\\n"
    # passwd- and the like hold what was before the last change: they are meant to.
    names = [word for name in REWRITTEN for word in ("-o", "-name", name)]
    other = ["-not", "-name", "*-", "-not", "(", *names[1:], ")"]
    found = run("find", "/etc", "-type", "d", "-printf", "%p %m\\n", "-o", *other, "-printf", said)
    return sorted([*found.splitlines(), *run("sha256sum", *map(str, _rewritten())).splitlines()])


def _dev() -> list[str]:
    """Nodes and links; in the folders that udev makes as it goes, those that lead to our nodes."""
    found = [path for path in Path("/dev").glob("*") if path.is_symlink() or not path.is_dir()]
    links = (path for path in Path("/dev").glob("*/*") if path.is_symlink())
    return sorted(map(str, [*found, *(path for path in links if "crypto" in os.readlink(path))]))


def _rewritten() -> list[Path]:
    return [path for name in REWRITTEN if (path := Path("/etc", name)).exists()]


def install(program: str, kind: str, *flags: str) -> dict[str, Any]:
    before = snapshot()
    if kind == "mounted":
        _install_elsewhere(program, *flags)
    run(program, "service", "install", "--enable", *flags)
    with CONFIGURATION.open("a") as file:
        # Emulated, a back end takes long to start.
        file.write("\n[device.cryptodev0]\ndeadline = 300\n")
    return {"before": before}


def _install_elsewhere(program: str, *flags: str) -> None:
    """Where there is no CUSE; what follows that takes too long in an emulated machine."""
    attempt = program, "service", "install", "--enable", *flags
    said = 'write node = "mounted" under [device] in /etc/cuse-crypto.toml'
    assert run(*attempt, check=False).rstrip().endswith(said)
    text = CONFIGURATION.read_text().replace('node = "cuse"', 'node = "mounted"')
    text = text.replace('status = "off"', 'status = "auto"')
    second = '[device.cryptodev1]\nbackend = "unix:/run/cuse-crypto/quick.sock"\nmode = "0666"\n'
    CONFIGURATION.write_text(f'{text}{second}[backend.quick]\nengine = "nul"\n')
    line = len(CONFIGURATION.read_text().splitlines())
    said = f"cuse-crypto: {CONFIGURATION}:{line}: engine: 'nul' is not one of "
    assert run(*attempt, check=False).startswith(said)
    CONFIGURATION.write_text(CONFIGURATION.read_text().replace('"nul"', '"null"'))
    run(*attempt, "--devices", "2")
    assert _mode(NODE) == "-rw-rw----"
    assert Path("/run/cuse-crypto", NODE.name).is_mount()
    node = NODE.with_name("cryptodev1")
    assert _mode(node) == "-rw-rw-rw-"
    node.open("rb", buffering=0).close()
    says = run("systemctl", "show", "--property=StatusText", "cuse-crypto-backend@quick.service")
    assert "(engine null, as asked)" in says, says
    run("systemctl", "stop", "cuse-crypto.target")
    eventually(lambda: not (NODE.exists() or node.exists()), "the end of both")
    # One again: the other one goes.
    CONFIGURATION.write_text(text)
    run(*attempt)
    assert node.exists()
    run(*attempt, "--devices", "1")
    assert NODE.exists()
    assert not node.exists()


def serve(program: str, steady: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    # Where it lies, it may be out of the reach of ordinary users.
    steady = shutil.copy(steady, "/usr/local/bin/steady")
    eventually(lambda: NODE.exists() and _active(), "the device")
    eventually(lambda: _mode(NODE).endswith("rw-rw----"), "its mode")
    seen["node"] = run("ls", "-l", str(NODE))
    run("useradd", "--no-create-home", "--groups", "crypto", "member")
    run("useradd", "--no-create-home", "stranger")
    seen["stranger"] = errno.errorcode.get(_opened_by("stranger"), "")
    as_member = ["setpriv", "--reuid=member", "--regid=member", "--init-groups"]
    seen["member"] = _figures(run(*as_member, steady, str(NODE), "20", "cipher", "7"))
    before = _pid(DEVICE)
    with _at_work(*as_member, steady, str(NODE), "0", "cipher", "8") as working:
        for what in (("kill", "--signal=KILL", BACKEND), ("stop", BACKEND)):
            gone = _pid(BACKEND)
            run("systemctl", *what)
            # Whoever works on makes systemd start another one.
            eventually(partial(_other_than, gone), "another back end")
    seen["through"] = _figures(working.stdout.read())
    run("systemctl", "stop", SOCKET, BACKEND)
    seen["alone"] = errno.errorcode.get(_opened_by("member"), "")
    seen["same"] = _pid(DEVICE) == before and _active()
    run("systemctl", "start", SOCKET)
    seen["again"] = _figures(run(*as_member, steady, str(NODE), "5", "cipher", "9"))
    with _at_work(*as_member, steady, str(NODE), "0", "cipher", "10") as working:
        run("systemctl", "kill", "--signal=KILL", DEVICE)
        eventually(lambda: _pid(DEVICE) not in (0, before) and _active(), "another front end")
        seen["anew"] = _figures(run(*as_member, steady, str(NODE), "5", "cipher", "11"))
    seen["survived"] = _figures(working.stdout.read())
    seen["log"] = _logged()
    seen["uid"] = pwd.getpwnam("member").pw_uid
    seen["status"] = json.loads(run(program, "service", "status", "--json"))
    run("userdel", "member")
    run("userdel", "stranger")
    seen["removed"] = run(program, "service", "remove")
    seen["after"] = snapshot()
    seen["users"] = [name for name in ("cuse-crypto", "crypto") if _known(name)]
    return seen


@contextlib.contextmanager
def _at_work(*command: str) -> Iterator[Any]:
    """A program that works meanwhile, and reports when it is told to end."""
    working = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert working.stdout
    assert working.stdout.readline() == "ready\n"
    yield working
    working.terminate()
    working.wait()


def _figures(said: str) -> dict[str, Any]:
    """What tests/c/steady.c reports with its last line."""
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return figures


def _other_than(pid: int) -> bool:
    return _pid(BACKEND) not in (0, pid)


def _known(name: str) -> bool:
    return f"\n{name}:" in Path("/etc/passwd").read_text() + Path("/etc/group").read_text()


def _logged() -> list[dict[str, str]]:
    """The fields of what the device said of openings that failed."""
    lines = run("journalctl", "-b", "-o", "json", "-u", DEVICE, f"ERRNO={errno.ENODEV}")
    return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]


def _mode(node: Path) -> str:
    return stat.filemode(node.stat().st_mode)


def _active() -> bool:
    return run("systemctl", "is-active", DEVICE, check=False).strip() == "active"


def _pid(unit: str) -> int:
    return int(run("systemctl", "show", "--property=MainPID", "--value", unit))


def _opened_by(user: str) -> int:
    """The errno that opening the node gives a user; 0 if it is open to it."""
    row = pwd.getpwnam(user)
    groups = os.getgrouplist(user, row.pw_gid)
    pid = os.fork()
    if not pid:
        os.setgroups(groups)
        os.setgid(row.pw_gid)
        os.setuid(row.pw_uid)
        try:
            os.open(NODE, os.O_RDWR)
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    phase, *arguments = sys.argv[1:]
    phases: dict[str, Callable[..., dict[str, Any]]] = {"install": install, "serve": serve}
    print(json.dumps(phases[phase](*arguments)))
