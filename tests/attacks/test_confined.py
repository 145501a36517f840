"""What an attacker who has taken over the back end may try: the kernel refuses all of it.

Each attempt is made inside of a process that is confined as the back end is.
"""

import ctypes
import fcntl
import mmap
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuse_crypto.cli import sandbox
from cuse_crypto.hardening import system_calls
from cuse_crypto.hardening.identity import Identity
from cuse_crypto.linux import landlock
from cuse_crypto.wire.connection import Connection, ConnectionLost
from cuse_crypto.wire.shared import Pipe, SharedConnection
from tests.conftest import Service, StartDevice
from tests.test_hardening import in_child

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="to become another user takes root"),
    pytest.mark.skipif(system_calls.why_no_filter() is not None, reason="no libseccomp"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]
NOBODY = Identity.named("nobody")
OPENAT, MPROTECT, PKEY_MPROTECT, SHMAT, EXECVEAT = 257, 10, 329, 30, 322
READ_WRITE, EXECUTE = 3, 4
O_WAKE = os.O_WRONLY | os.O_NONBLOCK
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: object) -> int:
    """syscall(2)"""
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


NEEDS = sandbox.Needs()


def confined(attempt: Callable[[], object], needs: sandbox.Needs = NEEDS) -> str:
    """What it gives, or the name of the errno, in a process that is confined."""

    def act() -> object:
        sandbox.confine_back_end(NOBODY, needs, True)
        return attempt()

    return in_child(act)


def mapped(protection: int) -> int:
    found = libc.mmap(None, 4096, protection, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if found == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return int(found)


def write_then_execute() -> None:
    address = mapped(READ_WRITE)
    call(MPROTECT, ctypes.c_void_p(address), 4096, EXECUTE | 1)


def execute_a_memory_file() -> None:
    fd = os.memfd_create("program")
    os.write(fd, b"#!/bin/true\n")
    call(EXECVEAT, fd, b"", None, None, 0x1000)


def map_a_memory_file_executable() -> None:
    fd = os.memfd_create("code")
    os.ftruncate(fd, 4096)
    mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC)


def signal_by_owner() -> None:
    """The owner of a pipe is sent SIGIO."""
    fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, VICTIM)


VICTIM = 0
"""The pid of another process of the same user."""

ATTEMPTS: dict[str, Callable[[], object]] = {
    "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "read by openat2": lambda: call(437, -100, b"/etc/passwd", bytes(24), ctypes.c_size_t(24)),
    "read by open": lambda: call(2, b"/etc/passwd", 0, 0),
    "read a folder": lambda: os.listdir("/"),
    "own memory": lambda: os.open("/proc/self/mem", os.O_RDWR),
    "another's memory": lambda: os.open(f"/proc/{VICTIM}/mem", os.O_RDWR),
    "another's environment": lambda: os.open(f"/proc/{VICTIM}/environ", os.O_RDONLY),
    "another's descriptor": lambda: os.open(f"/proc/{VICTIM}/fd/0", O_WAKE),
    "create a file": lambda: os.open("/tmp/never", os.O_WRONLY | os.O_CREAT),
    "a temporary file": lambda: os.open("/tmp", os.O_RDWR | os.O_TMPFILE),
    "write to a device as a pipe is woken": lambda: os.open("/dev/null", O_WAKE),
    "write to own memory as a pipe is woken": lambda: os.open("/proc/self/mem", O_WAKE),
    "unlink": lambda: os.unlink("/tmp/never"),
    "rename": lambda: os.rename("/tmp/never", "/tmp/ever"),
    "link": lambda: os.symlink("/tmp/never", "/tmp/ever"),
    "chmod": lambda: os.chmod("/tmp", 0o700),
    "truncate": lambda: os.truncate("/etc/passwd", 0),
    "chdir": lambda: os.chdir("/tmp"),
    "chroot": lambda: os.chroot("/tmp"),
    "mount": lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, None),
    "writable and executable": lambda: mapped(READ_WRITE | EXECUTE),
    "executable": lambda: mapped(1 | EXECUTE),
    "executable later": write_then_execute,
    "executable later, by key": lambda: call(
        PKEY_MPROTECT, ctypes.c_void_p(mapped(READ_WRITE)), 4096, EXECUTE | 1, -1
    ),
    "executable shared memory": lambda: call(SHMAT, 0, None, 0o100000),
    "execute a memory file": execute_a_memory_file,
    "map a memory file executable": map_a_memory_file_executable,
    "execute a program": lambda: os.execv("/bin/true", ["true"]),
    "a process": os.fork,
    "vfork": lambda: call(58),
    "a socket": lambda: socket.socket(socket.AF_INET),
    "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "connect": lambda: call(42, 0, bytes(16), 16),
    "ptrace": lambda: call(101, 16, VICTIM, 0, 0),
    "read another's memory": lambda: call(310, VICTIM, None, 0, None, 0, 0),
    "write another's memory": lambda: call(311, VICTIM, None, 0, None, 0, 0),
    "compare": lambda: call(312, VICTIM, VICTIM, 0, 0, 0),
    "pidfd": lambda: os.pidfd_open(VICTIM),
    "a descriptor of another": lambda: call(438, 0, 0, 0),
    "kill": lambda: os.kill(VICTIM, signal.SIGTERM),
    "kill everybody": lambda: os.kill(-1, signal.SIGTERM),
    "tgkill": lambda: call(234, VICTIM, VICTIM, signal.SIGTERM),
    "tkill": lambda: call(200, VICTIM, signal.SIGTERM),
    "a queued signal": lambda: call(129, VICTIM, signal.SIGTERM, bytes(128)),
    "a signal by SIGIO": signal_by_owner,
    "another's limits": lambda: call(302, VICTIM, 7, None, None),
    "another's priority": lambda: os.setpriority(os.PRIO_PROCESS, VICTIM, 19),
    "another's processors": lambda: os.sched_setaffinity(VICTIM, [0]),
    "io_uring": lambda: call(425, 8, bytes(120)),
    "keyctl": lambda: call(250, 0, -3, 1),
    "add_key": lambda: call(248, b"user", b"a", b"b", 1, -3),
    "bpf": lambda: call(321, 0, bytes(64), 64),
    "userfaultfd": lambda: call(323, 0),
    "perf_event_open": lambda: call(298, bytes(128), 0, -1, -1, 0),
    "unshare": lambda: call(272, 0x10000000),
    "setns": lambda: call(308, 0, 0),
    "personality": lambda: call(135, 0x0400000),
    "modify_ldt": lambda: call(154, 1, bytes(16), 16),
    "name_to_handle_at": lambda: call(303, -100, b"/", bytes(16), bytes(8), 0),
    "quotactl": lambda: call(179, 0, None, 0, None),
    "kexec": lambda: call(246, 0, 0, None, 0),
    "a module": lambda: call(175, None, 0, b""),
    "reboot": lambda: call(169, 0, 0, 0, None),
    "a clock": lambda: call(227, 0, bytes(16)),
    "dumpable": lambda: call(157, 4, 1, 0, 0, 0),
}
REFUSED = {"EPERM", "EACCES", "ENOSYS"}
WITHOUT_LANDLOCK = {
    "write to a device as a pipe is woken",
    "write to own memory as a pipe is woken",
    "another's descriptor",
}
"""What the filter of system calls alone lets pass, since it cannot see paths."""


@pytest.fixture(scope="module", autouse=True)
def victim() -> Iterator[None]:
    """A process of the user that the back end becomes."""
    process = subprocess.Popen(["sleep", "1000"], user=NOBODY.uid, group=NOBODY.gid)
    globals()["VICTIM"] = process.pid
    yield
    alive = process.poll() is None
    process.kill()
    process.wait()
    assert alive


@pytest.mark.parametrize("name", ATTEMPTS)
def test_what_is_refused(name: str) -> None:
    if name in WITHOUT_LANDLOCK and not landlock.version():
        pytest.skip("this kernel has no Landlock")
    assert confined(ATTEMPTS[name]) in REFUSED


def test_the_attempts_are_none_for_whoever_is_not_confined() -> None:
    """Else the test above would say nothing: these work before."""
    for name in ("read a file", "executable later", "a signal by SIGIO", "tgkill", "executable"):

        def attempt(name: str = name) -> object:
            NOBODY.become()
            ATTEMPTS[name]()
            return "done"

        if name == "tgkill":
            other = subprocess.Popen(["sleep", "1000"], user=NOBODY.uid)
            own, globals()["VICTIM"] = VICTIM, other.pid
            assert in_child(attempt) == "done"
            assert other.wait() == -signal.SIGTERM
            globals()["VICTIM"] = own
        else:
            assert in_child(attempt) == "done"


def test_an_engine_s_device_and_no_other() -> None:
    if not landlock.version():
        pytest.skip("this kernel has no Landlock")
    device, other = Path("/dev/zero"), Path("/dev/full")
    needs = sandbox.Needs(devices=(device,), files=(Path("/proc/crypto"),))

    def attempt() -> object:
        os.close(os.open(device, os.O_RDWR))
        os.close(os.open("/proc/crypto", os.O_RDONLY))
        return os.open(other, os.O_RDWR)

    assert confined(attempt, needs) == "EACCES"
    assert confined(lambda: os.open(device, os.O_RDWR)) in REFUSED


def test_a_reader_is_woken() -> None:
    """SharedConnection.shut opens the pipe of its reader, which has no path."""

    one, other = socket.socketpair()

    def attempt() -> object:
        theirs, pipe = Pipe(), Pipe()
        connection = SharedConnection(Connection(one, 0), pipe, theirs.writing, memoryview(b""))
        woken: list[bool] = []

        def read() -> None:
            try:
                connection.receive(memoryview(b""))
            except ConnectionLost:
                woken.append(True)

        thread = threading.Thread(target=read)
        thread.start()
        connection.shut()
        thread.join(10)
        return woken

    with one, other:
        assert confined(attempt) == "[True]"


def test_a_traceback_can_be_written() -> None:
    def attempt() -> object:
        try:
            raise ValueError("what is wrong")
        except ValueError:
            return "what is wrong" in traceback.format_exc()

    assert confined(attempt) == "True"


@pytest.mark.node
def test_the_device_computes_without_opening_anything(start_up: StartDevice) -> None:
    """No system call of a back end at work is refused: nothing that it needs is missing."""
    service = start_up("--engine", "openssl", "--workers", "3")
    status = Path(f"/proc/{service.child('backend')}/status").read_text()
    assert "\nSeccomp:\t2\n" in status
    assert _works(service)
    assert service.stop() == 0
    assert service.said() == ""


def _works(service: Service) -> bool:
    from cuse_crypto import CryptoDevice

    with CryptoDevice(service.path) as device:
        cipher = device.cipher("aes-cbc", bytes(16))
        return len(cipher.encrypt(bytes(1 << 20), iv=bytes(16))) == 1 << 20


def test_the_numbers_of_another_architecture_end_the_process() -> None:
    assert confined(lambda: call(0x40000000 + OPENAT, -100, b"/", 0, 0)) == ""


def test_the_front_end_executes_nothing_new() -> None:
    """Nor does what is started in its place by `cuse-crypto upgrade`."""
    again = "import ctypes; print(ctypes.CDLL(None).prctl(66, 0, 0, 0, 0))"

    def attempt(name: str) -> object:
        sandbox.confine_front_end(True, mounted=True)
        return ATTEMPTS[name]()

    if in_child(lambda: call(157, 66, 0, 0, 0, 0)) == "EINVAL":
        pytest.skip("Linux has it since 6.3")
    assert in_child(lambda: attempt("executable later")) == "EACCES"
    assert in_child(lambda: attempt("writable and executable")) == "EACCES"

    def replaced() -> object:
        sandbox.confine_front_end(True, mounted=True)
        return subprocess.run([sys.executable, "-c", again], capture_output=True, check=True).stdout

    assert in_child(replaced) == "b'1\\n'"
