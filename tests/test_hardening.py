"""What the two processes have given up, seen from outside, and tried from inside."""

import ctypes
import errno
import mmap
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cuse_crypto.cli import sandbox
from cuse_crypto.errors import Failure
from cuse_crypto.frontend.arena import Arena
from cuse_crypto.hardening import caretaker, privileges, secrets, system_calls
from cuse_crypto.hardening.identity import PREFERRED, Identity
from cuse_crypto.linux import credentials
from cuse_crypto.linux.libc import checked
from cuse_crypto.wire.area import Area
from tests.conftest import Service, StartDevice, children, eventually, fresh_name, start
from tests.test_cli import one_line, run

# Their children do nothing but system calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PR_GET_DUMPABLE = 3
CLONE_NEWUSER = 0x10000000
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="to give up privileges takes some")
FILTERED = pytest.mark.skipif(
    "seccomp" not in Path("/proc/self/status").read_text().lower(),
    reason="a kernel without seccomp",
)


def in_child(action: Callable[[], object]) -> str:
    """What ``action`` gives in a process of its own, or the name of the errno that it meets."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = str(action())
        except OSError as error:
            said = errno.errorcode[error.errno or 0]
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return said


def status(pid: int) -> list[dict[str, str]]:
    """/proc/PID/status of every thread."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = (line.partition(":") for line in path.read_text().splitlines())
        found.append({name: value.strip() for name, _, value in lines})
    assert found
    return found


def capabilities(thread: dict[str, str], which: str = "CapPrm") -> int:
    return int(thread[which], 16)


def core_limit(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core")).split()[4:6]


@pytest.fixture(scope="module")
def busy(start_up: StartDevice) -> Service:
    """A device that has started more than one worker."""
    from cuse_crypto import CryptoDevice

    service = start_up("--engine", "openssl")
    with CryptoDevice(service.path) as device:

        def work() -> None:
            device.cipher("aes-cbc", bytes(16)).encrypt(bytes(4 << 20), iv=bytes(16))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return service


@pytest.mark.node
def test_the_back_end_of_up(busy: Service) -> None:
    pid = busy.child("backend")
    uid = Identity.preferred().uid
    assert uid
    threads = status(pid)
    assert len(threads) > 2
    for thread in threads:
        assert thread["Uid"].split() == [str(uid)] * 4
        assert thread["Groups"] == ""
        assert capabilities(thread) in (0, 1 << credentials.CAP_IPC_LOCK)
        assert capabilities(thread, "CapBnd") == 0
        assert thread["NoNewPrivs"] == "1"
        assert thread["Seccomp"] == "2"
    assert core_limit(pid) == ["0", "0"]
    assert Path(f"/proc/{pid}/environ").stat().st_uid == 0, "its user may look inside"


@pytest.mark.node
def test_the_front_end_of_up(busy: Service) -> None:
    pid = busy.child("device")
    wanted = sum(1 << number for number in privileges.CALLERS)
    optional = 1 << credentials.CAP_IPC_LOCK | 1 << credentials.CAP_SYS_ADMIN
    threads = status(pid)
    assert len(threads) > 2
    for thread in threads:
        assert capabilities(thread) & ~optional == wanted == capabilities(thread, "CapEff") & wanted
        assert capabilities(thread, "CapBnd") == 0
        # An upgraded program has them too, and mounts the status files.
        mounting = 1 << credentials.CAP_SYS_ADMIN
        assert capabilities(thread, "CapInh") == capabilities(thread) | mounting
        assert thread["NoNewPrivs"] == "1"
    assert core_limit(pid) == ["0", "0"]


@pytest.mark.node
def test_the_exit_monitor_of_up(busy: Service) -> None:
    commands = {
        pid: Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        for pid in children(busy.child("device"))
    }
    (monitor,) = (pid for pid, line in commands.items() if line.startswith("cuse-crypto exit-mon"))
    (thread,) = status(monitor)
    for which in ("CapPrm", "CapEff", "CapInh", "CapBnd"):
        assert capabilities(thread, which) == 0
    assert thread["NoNewPrivs"] == "1"
    targets = sorted(os.readlink(fd) for fd in Path(f"/proc/{monitor}/fd").iterdir())
    assert targets[:3] == ["/dev/null"] * 3
    assert [target.partition(":")[0] for target in targets[3:]] == ["pipe"]


@pytest.mark.node
def test_root_without_privileges(start_up: StartDevice) -> None:
    service = start_up("--user", "root", "--engine", "null")
    (thread, *_) = status(service.child("backend"))
    assert thread["Uid"].split()[0] == "0"
    assert capabilities(thread) & ~(1 << credentials.CAP_IPC_LOCK) == 0
    assert service.stop() == 0


@pytest.mark.node
def test_no_sandbox(start_up: StartDevice) -> None:
    service = start_up("--no-sandbox", "--user", "nobody", "--engine", "null")
    os.close(os.open(service.path, os.O_RDWR))
    for role, uid in (("backend", pwd.getpwnam("nobody").pw_uid), ("device", 0)):
        (thread, *_) = status(service.child(role))
        assert thread["Uid"].split()[0] == str(uid)
        assert (thread["Seccomp"], thread["NoNewPrivs"]) == ("0", "0")
        assert core_limit(service.child(role)) == ["0", "0"]
    assert service.stop() == 0


@ROOT_ONLY
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_socket_is_removed_by_who_may(tmp_path: Path, number: int) -> None:
    # Closed to whom the back end becomes.
    tmp_path.chmod(0o700)
    service = start("backend", "--listen", f"unix:{tmp_path}/s", "--engine", "null")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert service.stop(number) == (-number if number == signal.SIGKILL else 0)
    if number == signal.SIGKILL:
        eventually(lambda: not list(tmp_path.iterdir()))
    assert not list(tmp_path.iterdir())


@ROOT_ONLY
@pytest.mark.node
def test_the_back_end_ends_while_it_is_used(tmp_path: Path, node_kind: str) -> None:
    """Its threads are woken through /proc/self/fd, which still works as another user."""
    address = f"unix:{tmp_path}/s"
    backend = start("backend", "--listen", address, "--engine", "null")
    name = fresh_name()
    device = start("device", "--backend", address, "--name", name, "--node", node_kind)
    file = os.open(f"/dev/{name}", os.O_RDWR)
    try:
        assert backend.stop() == 0
        assert not backend.said()
    finally:
        os.close(file)
        assert device.stop() == 0


def test_a_caretaker_leaves_what_it_was_not_told_of(tmp_path: Path) -> None:
    path, moved = tmp_path / "s", tmp_path / "moved"
    path.touch()
    with caretaker.removing(path):
        pass
    assert path.exists()
    with caretaker.removing(path) as caring:
        caring.watch()
        path.rename(moved)
        path.touch()
    assert path.exists()
    with caretaker.removing(path) as caring:
        caring.watch()
    assert not path.exists()


def test_unknown_user(tmp_path: Path) -> None:
    done = run("backend", "--listen", f"unix:{tmp_path}/s", "--user", "no-such-user")
    assert "no user 'no-such-user'" in one_line(done)
    assert not list(tmp_path.iterdir())


@ROOT_ONLY
def test_who_may_not_change_its_user(tmp_path: Path) -> None:
    def ordinary() -> object:
        Identity.named("65533").become()
        Identity.named("65532").become()
        return os.getuid()

    assert "Failure" in in_child(ordinary)
    assert "--user root" in in_child(ordinary)


def test_root_of_a_user_namespace(tmp_path: Path) -> None:
    """It may not become anybody, and need not."""

    def serve() -> object:
        checked(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        identity, remark = sandbox.identity_for(None, sandbox.Needs())
        sandbox.confine_back_end(identity, sandbox.Needs(), True)
        Area(1 << 30).view[0] = 1
        return identity, remark, os.geteuid()

    uid = os.geteuid()
    said = in_child(serve)
    if said in ("EPERM", "ENOSPC"):
        pytest.skip("no user namespaces here")
    assert said == "(None, '', 0)"


@ROOT_ONLY
def test_a_user_for_a_device(tmp_path: Path) -> None:
    device = tmp_path / "crypto"
    device.touch(mode=0o660)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if folder.stat().st_uid == 0 and folder != Path("/tmp"):
            folder.chmod(0o755)
    nobody = Identity.named("nobody")
    needs = sandbox.Needs(devices=(device,))
    device.chmod(0o660)
    assert not nobody.in_group_of(device).may_open([device]), "root's group is not for nobody"
    assert sandbox.identity_for(None, needs)[0] is None
    with pytest.raises(Failure, match="chgrp"):
        sandbox.identity_for("nobody", needs)
    os.chown(device, 0, 4711)
    identity, remark = sandbox.identity_for(None, needs)
    assert identity
    assert (identity.groups, remark) == ((4711,), "")
    assert os.geteuid() == 0
    assert 4711 not in os.getgroups()


@ROOT_ONLY
def test_what_is_given_up_stays_so() -> None:
    def give_up() -> object:
        secrets.no_dump()
        sandbox.confine_back_end(Identity.named("nobody"), sandbox.Needs(), True)
        os.setuid(0)
        return "root again"

    assert in_child(give_up) == "EPERM"


def test_no_dump() -> None:
    def dumpable() -> object:
        secrets.no_dump()
        return ctypes.CDLL(None).prctl(PR_GET_DUMPABLE), resource.getrlimit(resource.RLIMIT_CORE)

    assert in_child(dumpable) == "(0, (0, 0))"


@ROOT_ONLY
def test_locked_memory_can_be_trimmed_and_had() -> None:
    def locked() -> object:
        if not secrets.no_swap():
            return "locked"
        identity = Identity.named("nobody")
        status = open("/proc/self/status")  # noqa: SIM115
        sandbox.confine_back_end(identity, sandbox.Needs(), True)
        for memory in (Arena(), Area(8 << 20)):
            memory.view[-(1 << 20) :] = bytes(1 << 20)
            memory.trim()
            assert bytes(memory.view[-10:]) == bytes(10)
        line = next(line for line in status if line.startswith("VmLck"))
        return "locked" if int(line.split()[1]) > 1000 else line

    assert in_child(locked) == "locked"


FORBIDDEN: dict[str, Callable[[], object]] = {
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "a process": os.fork,
    "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "AF_INET": lambda: socket.socket(socket.AF_INET),
    "AF_UNIX": lambda: socket.socket(socket.AF_UNIX),
    "AF_NETLINK": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "AF_ALG": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "setuid": lambda: os.setuid(0),
    "kill": lambda: os.kill(os.getppid(), 0),
    "mkdir": lambda: os.mkdir("/tmp/never"),
    "dumpable": lambda: credentials.prctl(credentials.PR_SET_DUMPABLE, 1),
    "ptrace": lambda: checked(ctypes.CDLL(None, use_errno=True).ptrace(16, 1, 0, 0)),
    "a terminal's input": lambda: __import__("fcntl").ioctl(0, 0x5412, b"x"),
}


@FILTERED
@pytest.mark.parametrize("name", FORBIDDEN)
def test_system_calls_that_are_refused(name: str) -> None:
    def attempt() -> object:
        assert system_calls.confine()
        return FORBIDDEN[name]()

    assert in_child(attempt) == "EPERM"


@FILTERED
def test_system_calls_that_go_on() -> None:
    """What any back end does: threads, memory, descriptors; and in a thread that was there."""

    def attempt() -> object:
        before, after = threading.Event(), threading.Event()
        refused: list[int | None] = []

        def old() -> None:
            before.set()
            after.wait()
            try:
                os.execv("/bin/true", ["true"])
            except OSError as error:
                refused.append(error.errno)

        thread = threading.Thread(target=old)
        thread.start()
        before.wait()
        assert system_calls.confine()
        after.set()
        thread.join()
        new = threading.Thread(target=lambda: refused.append(os.getpid()))
        new.start()
        new.join()
        mmap.mmap(-1, 1 << 20).close()
        reading, _ = os.pipe()
        os.close(os.open(f"/proc/self/fd/{reading}", os.O_WRONLY | os.O_NONBLOCK))
        return refused == [errno.EPERM, os.getpid()]

    assert in_child(attempt) == "True"


@FILTERED
def test_sockets_of_the_engine() -> None:
    def attempt(family: int) -> object:
        assert system_calls.confine(families=[socket.AF_ALG])
        return socket.socket(family, socket.SOCK_SEQPACKET).family

    assert in_child(lambda: attempt(socket.AF_ALG)) in ("EAFNOSUPPORT", str(socket.AF_ALG))
    assert in_child(lambda: attempt(socket.AF_UNIX)) == "EPERM"


def test_without_the_library(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(system_calls, "LIBRARY", "libno-such-thing.so.2")
    assert not system_calls.confine()
    (record,) = caplog.records
    assert "install libseccomp2" in record.getMessage()


@ROOT_ONLY
@pytest.mark.node
def test_other_users_and_their_descriptors(openssl_device: Service) -> None:
    """The capabilities that are left reach another user's memory, and its /proc/PID/syscall."""
    from cuse_crypto.abi import ioctls

    row = next(row for row in ioctls.IOCTLS if row.name == "CRIOGET")
    fd = os.open(openssl_device.path, os.O_RDWR)
    program = (
        "import ctypes, fcntl, os\n"
        "os.setgroups([]); os.setgid(65533); os.setuid(65533)\n"
        # As after execve(2): /proc/PID belongs to the new user, not to root.
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "number = bytearray(4)\n"
        f"fcntl.ioctl({fd}, {row.number(64)}, number)\n"
        "new = int.from_bytes(number, 'little')\n"
        f"print(new != {fd} and os.path.sameopenfile(new, {fd}))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[fd],
            timeout=30,
        )
    finally:
        os.close(fd)
    assert done.stdout == "True\n", done.stderr


def test_preferred_users_are_looked_for_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"nobody": 65534, "cuse-crypto": 990}

    def getpwnam(name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", known[name], known[name], "", "/", "/bin/false"))

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    assert Identity.preferred().name == PREFERRED[0]
    del known["cuse-crypto"]
    assert Identity.preferred().name == "nobody"
    known.clear()
    with pytest.raises(Failure, match="--user"):
        Identity.preferred()
