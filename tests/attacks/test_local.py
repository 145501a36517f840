"""Other users of the same machine, against what the processes find, leave behind and wait for."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cuse_crypto.fuse import claim
from cuse_crypto.linux.processes import Identity
from tests.attacks.conftest import ATTACKER, Spawn, as_user
from tests.conftest import Service, StartDevice, children, eventually, fresh_name

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

DEV = Path("/dev")


def command(*words: object) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "cuse_crypto", *map(str, words)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def opened(path: Path, flags: int = os.O_RDWR) -> str:
    """``open``, or the name of the errno."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "open"


def kill_all(service: Service) -> None:
    """``up`` and its children, by SIGKILL."""
    pids = children(service.process.pid)
    os.kill(service.process.pid, signal.SIGSTOP)
    # First those that would be sent SIGTERM by its end, and end in an orderly way.
    for pid in (*pids, service.process.pid):
        os.kill(pid, signal.SIGKILL)
    service.process.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


# Upgrade.


@pytest.fixture
def impostor(spawn: Spawn) -> Callable[[str], subprocess.Popen[str]]:
    """``impostor(NAME)``: an attacker's process with the command line of the front end of NAME."""

    def pretend(name: str) -> subprocess.Popen[str]:
        process = spawn(
            ATTACKER, "bash", "-c", f"exec -a 'cuse-crypto device --name {name}' sleep 1000"
        )
        wanted = f"cuse-crypto device --name {name}"
        eventually(lambda: wanted in Path(f"/proc/{process.pid}/cmdline").read_text())
        return process

    return pretend


def test_upgrade_signals_no_impostor(
    impostor: Callable[[str], subprocess.Popen[str]], open_device: Service
) -> None:
    name = open_device.path.name
    same, other = impostor(name), impostor("cryptotest-impostor")
    before = open_device.child("device")
    said = command("upgrade", name)
    assert (said.stdout, said.stderr) == (f"upgraded: /dev/{name} (process {before})\n", "")
    said = command("upgrade", "cryptotest-impostor")
    assert said.stderr.startswith("cuse-crypto: no front end of /dev/cryptotest-impostor runs here")
    threading.Event().wait(0.2)
    assert (same.poll(), other.poll()) == (None, None)


def test_upgrade_signals_nobody_who_has_the_pid_of_a_dead_one() -> None:
    path = DEV / fresh_name()
    bystander = subprocess.Popen(["sleep", "1000"])
    right = claim.take(path)
    try:
        claim.record(right, 1)
        namespace = 2
        numbers = [bystander.pid, *Identity.own()[1:]]
        os.pwrite(right, json.dumps([numbers, None, 1]).ljust(256).encode(), 0)
        said = command("upgrade", path.name)
        assert said.stderr.startswith(f"cuse-crypto: {path} has no front end just now")
        numbers[namespace] += 1
        os.pwrite(right, json.dumps([numbers, None, 1]).ljust(256).encode(), 0)
        said = command("upgrade", path.name)
        assert said.stderr.startswith(f"cuse-crypto: {path} is served from another container")
        assert bystander.poll() is None
    finally:
        claim.release(path, right)
        bystander.kill()
        bystander.wait()


def test_upgrade_of_others(open_device: Service) -> None:
    said = subprocess.run(
        as_user(ATTACKER, sys.executable, "-m", "cuse_crypto", "upgrade", open_device.path.name),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if "setpriv: failed to execute" in said.stderr:
        pytest.skip("this interpreter is closed to other users")
    assert said.stderr == f"cuse-crypto: front ends are not of uid {ATTACKER}; run as root\n"


def test_upgrade_inside_of_run() -> None:
    said = command("run", "--", sys.executable, "-m", "cuse_crypto", "upgrade")
    assert said.stderr.startswith("cuse-crypto: the device of cuse-crypto run cannot be upgraded")


# The node's path.


def test_what_lies_under_a_node_cannot_be_opened(start_up: StartDevice, node_kind: str) -> None:
    if node_kind != "mounted":
        pytest.skip("a cuse node has nothing under it")
    service = start_up("--engine", "null", "--status", "off")
    path = service.path
    kill_all(service)
    assert opened(path) == "ENOTCONN"
    while os.path.ismount(path) or opened(path) == "ENOTCONN":
        subprocess.run(["umount", "--lazy", path], check=True)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        assert opened(path, flags) == "ENXIO"
    again = start_up("--engine", "null", "--status", "off", name=path.name)
    assert opened(path) == "open"
    assert again.stop() == 0
    assert not path.exists()


def test_who_opens_in_a_loop_never_gets_anything_else(
    start_up: StartDevice, node_kind: str
) -> None:
    """Through kills, restarts and orderly ends."""
    if node_kind != "mounted":
        pytest.skip("a cuse node has nothing under it")
    service = start_up("--engine", "null", "--status", "off")
    path, over = service.path, threading.Event()
    found: dict[str, int] = {}

    def look() -> None:
        while not over.is_set():
            try:
                fd = os.open(path, os.O_RDWR)
            except OSError as error:
                what = errno.errorcode[error.errno or 0]
            else:
                is_plain = False
                with suppress(OSError):
                    # A plain file would be one of /dev's own file system.
                    is_plain = os.fstat(fd).st_dev == DEV.stat().st_dev
                what = "a plain file" if is_plain else "open"
                os.close(fd)
            found[what] = found.get(what, 0) + 1

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(4):
            kill_all(service)
            service = start_up("--engine", "null", "--status", "off", name=path.name)
        assert service.stop() == 0
        service = start_up("--engine", "null", "--status", "off", name=path.name)
        threading.Event().wait(0.2)
        assert service.stop() == 0
    finally:
        over.set()
        watcher.join()
    assert set(found) <= {"open", "ENOENT", "ENXIO", "ENOTCONN", "ECONNABORTED"}, found
    assert found["open"] > 10


def test_a_stale_mount_is_replaced_at_once(start_up: StartDevice, node_kind: str) -> None:
    if node_kind != "mounted":
        pytest.skip("a cuse node goes with its front end")
    service = start_up("--engine", "null", "--status", "off")
    path, over = service.path, threading.Event()
    found: set[str] = set()
    kill_all(service)

    def look() -> None:
        while not over.is_set():
            found.add(opened(path))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        again = start_up("--engine", "null", "--status", "off", name=path.name)
    finally:
        over.set()
        watcher.join()
    assert found <= {"ENOTCONN", "open"}
    assert again.stop() == 0
    assert not path.exists()
    assert path.name not in Path("/proc/self/mountinfo").read_text()


def test_an_older_version_s_placeholder_is_replaced(start_up: StartDevice, node_kind: str) -> None:
    if node_kind != "mounted":
        pytest.skip("a cuse node has nothing under it")
    path = DEV / fresh_name()
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0))
    service = start_up("--engine", "null", "--status", "off", name=path.name)
    assert service.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "socket", "link"])
def test_what_is_not_ours_stays(kind: str, node_kind: str) -> None:
    path = DEV / fresh_name()
    if kind == "link":
        path.symlink_to("/etc/hostname")
    else:
        os.mknod(path, (stat.S_IFREG if kind == "file" else stat.S_IFSOCK) | 0o600)
    try:
        said = command("up", "--name", path.name, "--node", node_kind, "--engine", "null")
        assert f"{path} is taken (it exists" in said.stderr
        assert path.is_symlink() or path.exists()
    finally:
        path.unlink()


# Locks.


def test_nobody_can_keep_an_up_from_starting_by_a_lock(
    start_up: StartDevice, node_kind: str, tmp_path: Path
) -> None:
    """The attacker locks all that it can open, of what ``up`` makes or may meet."""
    first = start_up("--engine", "null", "--mode", "666")
    path = first.path
    program = tmp_path / "lock.py"
    places = [path, DEV, "/run/cuse-crypto", f"/run/cuse-crypto/{path.name}", DEV / claim.FOLDER]
    program.write_text(
        "import fcntl, os, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for place in sys.argv[1:]:\n"
        "    for folder, _, names in os.walk(place, onerror=print):\n"
        "        for one in (folder, *(os.path.join(folder, name) for name in names)):\n"
        "            if 'cuse' in one or 'crypto' in one:\n"
        "                try:\n"
        "                    fcntl.flock(os.open(one, os.O_RDONLY | os.O_NONBLOCK), 6)\n"
        "                except OSError as error: print(error)\n"
        "    try: fcntl.flock(os.open(place, os.O_RDONLY), 6)\n"
        "    except OSError as error: print(error)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    attacker = subprocess.Popen(
        [sys.executable, program, *map(str, places)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert attacker.stdout
    for line in attacker.stdout:
        if line == "locked\n":
            break
    try:
        other = start_up("--engine", "null")
        assert other.stop() == 0
        kill_all(first)
        again = start_up("--engine", "null", name=path.name)
        assert again.stop() == 0
    finally:
        attacker.communicate("")


def test_two_of_one_name(open_device: Service, node_kind: str) -> None:
    said = command("up", "--name", open_device.path.name, "--node", node_kind, "--engine", "null")
    assert f"{open_device.path} is taken (it is being served)" in said.stderr
    assert opened(open_device.path) == "open"


# Folders that other users can make.


def test_status_reads_no_folder_of_another_user(tmp_path: Path) -> None:
    """A name is that of a device, wherever root happens to be; and a trace is no link."""
    folder = Path("/tmp") / fresh_name()
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    folder.mkdir()
    (folder / "info").write_text("node: /dev/null\n")
    (folder / "trace").symlink_to(victim)
    os.chown(folder, ATTACKER, ATTACKER)
    try:
        for name in (folder.name, str(folder), f"./{folder.name}"):
            said = subprocess.run(
                [sys.executable, "-m", "cuse_crypto", "trace", name],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                cwd="/tmp",
            )
            assert "no status files" in said.stderr
        assert victim.read_text() == "as it was"
    finally:
        for name in ("info", "trace"):
            (folder / name).unlink()
        folder.rmdir()


def test_status_is_mounted_in_no_folder_of_another_user(
    start_up: StartDevice, node_kind: str
) -> None:
    place = Path("/tmp") / fresh_name()
    (place / "something").mkdir(parents=True)
    link = place.with_name(f"{place.name}-link")
    link.symlink_to("/mnt")
    os.chown(place, ATTACKER, ATTACKER)
    try:
        for path, why in (place, "can be changed by other users"), (link, "it is no folder"):
            service = start_up("--engine", "null", "--status", str(path))
            assert not path.is_mount()
            assert service.stop() == 0
            assert why in service.said()
    finally:
        shutil.rmtree(place)
        link.unlink()


# Names that are no text, and the status files.

NAMES = [b"\xff\xfe", b"a\nb) c", b"\x1b[31mred"]


@pytest.fixture
def named(attack: Callable[..., Path], spawn: Spawn, open_device: Service) -> list[int]:
    """Attackers at work under such names."""
    program = attack("named")
    pids = []
    for name in NAMES:
        process = spawn(ATTACKER, program, open_device.path, os.fsdecode(name))
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        pids.append(process.pid)
    return pids


def test_names_that_are_no_text(named: list[int], open_device: Service) -> None:
    """The front end reads them of callers that are signalled while they wait."""
    front, back = open_device.child("device"), open_device.child("backend")
    os.kill(back, signal.SIGSTOP)
    try:
        threading.Event().wait(0.2)
        for _ in range(10):
            for pid in named:
                os.kill(pid, signal.SIGUSR1)
            threading.Event().wait(0.01)
        threading.Event().wait(1.5)
    finally:
        os.kill(back, signal.SIGCONT)
    assert open_device.child("device") == front
    assert opened(open_device.path) == "open"
    assert open_device.stop() == 0
    assert open_device.said() == ""


def test_names_that_are_no_text_in_status_files(named: list[int], open_device: Service) -> None:
    tree = Path("/run/cuse-crypto", open_device.path.name)
    lines = (tree / "sessions").read_text().splitlines()
    assert len(lines) == 1 + len(named)
    assert all(line.isprintable() for line in lines)
    trace = os.open(tree / "trace", os.O_RDWR | os.O_NONBLOCK)
    threading.Event().wait(0.5)
    assert os.read(trace, 1 << 16)
    os.close(trace)
    assert open_device.stop() == 0
    assert open_device.said() == ""


def status_processes(service: Service) -> list[int]:
    """The one that serves is the child of the other."""
    found: list[int] = []
    parents = [service.child("device")]
    while parents := [pid for parent in parents for pid in children(parent)]:
        found += [pid for pid in parents if b"status-tree" in _words(pid)]
    return found


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_killed_status_process_is_replaced(start_up: StartDevice) -> None:
    service = start_up("--engine", "null")
    tree = Path("/run/cuse-crypto", service.path.name)
    keeper, serving = status_processes(service)
    os.kill(serving, signal.SIGKILL)
    eventually(lambda: "node" in _read(tree / "info"))
    _, serving = status_processes(service)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: status_processes(service) == [])
    os.kill(serving, signal.SIGKILL)
    assert opened(service.path) == "open"
    assert service.stop() == 0
    assert not tree.exists()
    assert "the status process was killed by SIGKILL; starting another one" in service.said()
    assert "no status files any more" in service.said()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_status_files_that_stay_open(start_up: StartDevice, spawn: Spawn) -> None:
    """One user's take neither the memory nor the place of others, and the end comes."""
    service = start_up("--engine", "null", "--mode", "666")
    tree = Path("/run/cuse-crypto", service.path.name)
    held = (
        "import os, sys, fcntl\n"
        "os.chdir(sys.argv[1])\n"
        "count = 0\n"
        "try:\n"
        "    while True:\n"
        "        fcntl.flock(os.open('sessions', os.O_RDONLY), 2 | 4) if count < 1"
        " else os.open('sessions', os.O_RDONLY)\n"
        "        count += 1\n"
        "except OSError as error: print(count, error.errno, flush=True)\n"
        "sys.stdin.read()\n"
    )
    attacker = spawn(ATTACKER, "/usr/bin/python3", "-c", held, tree)
    assert attacker.stdout
    count, number = map(int, attacker.stdout.readline().split())
    assert (count, number) == (64, errno.EMFILE)
    assert "node" in _read(tree / "info")
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 5
    assert not tree.exists()


def test_a_program_that_may_not_be_read(attack: Callable[..., Path]) -> None:
    """Under an unprivileged run its memory is closed, and the log says what opens it."""
    # Not in a folder of pytest's, which the next session closes.
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o711)
        program = folder / "unreadable"
        shutil.copy(attack("named"), program)
        program.chmod(0o711)
        _run_what_may_not_be_read(program)
    finally:
        shutil.rmtree(folder)


def _run_what_may_not_be_read(program: Path) -> None:
    run = [sys.executable, "-m", "cuse_crypto", "run", "--engine", "null", "--"]
    said = subprocess.run(
        as_user(ATTACKER, *run, program, "/dev/crypto", "name"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "setpriv: failed to execute" in said.stderr:
        pytest.skip("this interpreter is closed to other users")
    assert said.returncode == 2
    assert "let its user read the program (chmod +r)" in said.stderr
