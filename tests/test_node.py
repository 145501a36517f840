"""A real node, real processes, real C programs."""

import ctypes
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.structs import crypt_op, session_op
from cuse_crypto.layout import Layout, Width
from tests.conftest import HERE, Compile, Service, StartDevice, children, eventually
from tests.vectors import VECTORS, Vector

pytestmark = pytest.mark.node

ROWS = {row.name: row for row in ioctls.IOCTLS}
PROGRAMS = HERE / "c"


class Program:
    """A Python program with nothing but fcntl.ioctl and ctypes."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR)

    def ioctl(self, name: str, op: tuple[int, ...]) -> tuple[int, ...]:
        layout: Layout[tuple[int, ...]] = ioctls.layout_of(ROWS[name], 64)
        argument = bytearray(layout.bytes(op))
        fcntl.ioctl(self.fd, ROWS[name].number(64), argument)
        return layout.read(argument)

    def session(self, vector: Vector) -> int:
        key = ctypes.create_string_buffer(vector.key, len(vector.key))
        op = session_op(cipher=vector.cipher, keylen=len(vector.key), key=ctypes.addressof(key))
        return self.ioctl("CIOCGSESSION", op)[6]

    def crypt(self, ses: int, op: int, iv: bytes, data: bytes) -> bytes:
        src = ctypes.create_string_buffer(data, len(data))
        dst = ctypes.create_string_buffer(len(data))
        counter = ctypes.create_string_buffer(iv, 16)
        request = crypt_op(
            ses=ses,
            op=op,
            len=len(data),
            src=ctypes.addressof(src),
            dst=ctypes.addressof(dst),
            iv=ctypes.addressof(counter),
        )
        self.ioctl("CIOCCRYPT", request)
        return dst.raw


@pytest.fixture
def program(openssl_device: Service) -> Iterator[Program]:
    one = Program(openssl_device.path)
    yield one
    os.close(one.fd)


def threads_and_files(pid: int) -> tuple[int, int]:
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


def no_more(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """Neither threads nor descriptors."""
    return now[0] <= before[0] and now[1] <= before[1]


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_published_answers(program: Program, vector: Vector) -> None:
    ses = program.session(vector)
    assert program.crypt(ses, 0, vector.iv, vector.plaintext) == vector.ciphertext
    assert program.crypt(ses, 1, vector.iv, vector.ciphertext) == vector.plaintext


def test_kind_and_owner(openssl_device: Service, node_kind: str) -> None:
    status = openssl_device.path.stat()
    is_kind = stat.S_ISCHR if node_kind == "cuse" else stat.S_ISREG
    assert is_kind(status.st_mode)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o660, 0, 0)
    assert f"({node_kind} node, as asked" in openssl_device.ready


def test_many_megabytes(program: Program) -> None:
    ses = program.session(VECTORS[3])
    data = os.urandom(16 << 20)
    secret = program.crypt(ses, 0, VECTORS[3].iv, data)
    assert program.crypt(ses, 1, VECTORS[3].iv, secret) == data
    # The first block and the last, each computed apart.
    assert program.crypt(ses, 0, VECTORS[3].iv, data[:16]) == secret[:16]
    assert program.crypt(ses, 0, secret[-32:-16], data[-16:]) == secret[-16:]


@pytest.mark.parametrize("engine", ["openssl", "null"])
def test_eight_callers(
    engine: str, request: pytest.FixtureRequest, compile_c: Compile, node_kind: str
) -> None:
    service: Service = request.getfixturevalue(f"{engine}_device")
    hammer = compile_c(PROGRAMS / "hammer.c")
    # Under emulation the number of operations would only cost time.
    operations = 10_000 if node_kind == "mounted" else 200
    extra = ["null"] if engine == "null" else []

    def run(count: int) -> None:
        command = [str(hammer), str(service.path), "8", str(count), "256", *extra]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert not done.returncode, done.stdout + done.stderr

    pids = service.child("backend"), service.child("device")
    files = None
    # As many workers as were wanted stay: at some time no more are.
    while files != (files := [threads_and_files(pid) for pid in pids]):
        run(operations // 2)
    before = [resident(pid) for pid in pids]
    run(operations)
    after = [resident(pid) for pid in pids]
    growth = [new - old for old, new in zip(before, after, strict=True)]
    assert max(growth) < 2 << 20, f"grew by {growth} bytes"


def test_a_killed_program_leaves_nothing(
    start_up: StartDevice, compile_c: Compile, node_kind: str
) -> None:
    leaver = compile_c(PROGRAMS / "leaver.c")
    # Under emulation the number would only cost time.
    opens = 1000 if node_kind == "mounted" else 100
    # One worker, so that every thread and descriptor is accounted for.
    service = start_up("--engine", "openssl", "--workers", "1")
    pids = service.child("backend"), service.child("device")

    def open_and_be_killed() -> None:
        process = subprocess.Popen(
            [leaver, service.path, str(opens)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        process.kill()
        process.wait()
        process.stdout.close()

    before = None
    # A worker more may be wanted on a busy machine, and stays.
    while before != (before := [threads_and_files(pid) for pid in pids]):
        open_and_be_killed()
    memory = [resident(pid) for pid in pids]
    for _ in range(2):
        open_and_be_killed()
    # Less, where a thread that was needed at the start has gone meanwhile.
    eventually(lambda: all(map(no_more, (threads_and_files(pid) for pid in pids), before)))
    growth = [resident(pid) - old for pid, old in zip(pids, memory, strict=True)]
    assert max(growth) < 2 << 20, f"grew by {growth} bytes"
    assert service.stop() == 0


def test_other_file_operations(program: Program, openssl_device: Service) -> None:
    def error(number: int, call: object, *arguments: object) -> None:
        with pytest.raises(OSError) as caught:
            call(*arguments)  # type: ignore[operator]
        assert caught.value.errno == number

    error(errno.EINVAL, os.read, program.fd, 16)
    error(errno.EINVAL, os.write, program.fd, b"x")
    error(errno.EINVAL, fcntl.ioctl, program.fd, 0x5401, bytearray(64))
    assert not os.isatty(program.fd)


def test_a_reader_of_the_node_is_told_no(openssl_device: Service) -> None:
    child = (
        "import os, sys; os.setgid(65534); os.setuid(65534);"
        f"sys.exit(os.access('{openssl_device.path}', os.R_OK))"
    )
    assert subprocess.run([sys.executable, "-c", child], check=False).returncode == 0


def test_chmod_opens_it(start_up: StartDevice) -> None:
    service = start_up("--engine", "openssl", "--mode", "0600", "--group", "1")
    assert stat.S_IMODE(service.path.stat().st_mode) == 0o600
    assert service.path.stat().st_gid == 1
    service.path.chmod(0o666)
    child = (
        "import os; os.setgid(65534); os.setuid(65534);"
        f"os.close(os.open('{service.path}', os.O_RDWR))"
    )
    assert subprocess.run([sys.executable, "-c", child], check=False).returncode == 0
    assert service.stop() == 0


def test_a_killed_caller_is_gone_at_once(start_up: StartDevice, compile_c: Compile) -> None:
    """Even while the back end does not answer at all."""
    service = start_up("--engine", "openssl")
    hammer = compile_c(PROGRAMS / "hammer.c")
    backend = service.child("backend")
    process = subprocess.Popen(
        [hammer, service.path, "1", "1000000", "256"], stdout=subprocess.DEVNULL
    )
    try:
        eventually(lambda: os.path.exists(f"/proc/{process.pid}"))
        threading.Event().wait(0.3)
        os.kill(backend, signal.SIGSTOP)
        threading.Event().wait(0.1)
        callers = children(process.pid)
        for pid in [*callers, process.pid]:
            os.kill(pid, signal.SIGKILL)
        assert process.wait(timeout=2) == -signal.SIGKILL
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in callers), 2)
    finally:
        os.kill(backend, signal.SIGCONT)
    # And the device goes on.
    one = Program(service.path)
    one.crypt(one.session(VECTORS[3]), 0, VECTORS[3].iv, VECTORS[3].plaintext)
    os.close(one.fd)
    assert service.stop() == 0


@pytest.mark.parametrize("width", [64, 32])
def test_crypto_buffer(start_up: StartDevice, compile_c: Compile, width: Width) -> None:
    """A second API on the same machinery."""
    service = start_up("--engine", "openssl", "--api", "crypto-buffer")
    program = compile_c(PROGRAMS / "buffers.c", *(["-m32"] if width == 32 else []))
    done = subprocess.run([program, service.path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert service.stop() == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nonsense_in_every_member(
    start_up: StartDevice, compile_c: Compile, node_kind: str, seed: int
) -> None:
    """There is always an answer, no bug is logged, and nobody else notices."""
    service = start_up("--engine", "openssl")
    count = 5000 if node_kind == "mounted" else 300
    hammer = compile_c(PROGRAMS / "hammer.c")
    beside = subprocess.Popen(
        [hammer, service.path, "2", str(count // 10), "256"], stdout=subprocess.DEVNULL
    )
    program = compile_c(PROGRAMS / "nonsense.c")
    command = [str(program), str(service.path), str(seed), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, f"{count} answers\n")
    assert beside.wait(timeout=300) == 0
    assert service.stop() == 0
    assert service.said() == ""
