"""The status files of a real node: under load, as programs read them, and that nobody waits."""

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto import CryptoDevice
from cuse_crypto.abi.structs import crypt_op, number, session_op
from cuse_crypto.board import DROPPED, HEAD, RING, TAIL, Board, RingReader, RingWriter, Seat, Seats
from cuse_crypto.client.open_file import OpenFile
from cuse_crypto.linux.mounts import mount_type
from cuse_crypto.status import client, mount
from cuse_crypto.status.client import Tree
from cuse_crypto.status.streams import ROOM
from cuse_crypto.status.wishes import WishError, Wishes
from tests.conftest import Service, StartDevice, eventually, fresh_name, start
from tests.dying import SHA256, File, Memory

FILES = ["counters", "info", "metrics", "sessions", "trace"]
KEY, MAC_KEY = bytes(range(100, 116)), b"a key that no file may show"
PLAINTEXT = b"what only the caller may know!!!"
IV = bytes(range(200, 216))

node = pytest.mark.node
needs_status = pytest.mark.skipif(
    mount.why_no_status() is not None, reason=str(mount.why_no_status())
)


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A trace in which nothing comes is waited for forever, by itself."""

    def end(*_: object) -> None:
        raise AssertionError("it did not come about in time")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def tree_of(service: Service) -> Path:
    return mount.place_of(service.path.name)


@pytest.fixture
def device(start_up: StartDevice) -> Iterator[Service]:
    service = start_up("--engine", "openssl")
    yield service
    folder = tree_of(service)
    assert service.stop() == 0
    assert not folder.exists()
    assert mount_type(folder) is None


@pytest.fixture(scope="module")
def shared(start_up: StartDevice) -> Service:
    return start_up("--engine", "openssl")


def counts(service: Service) -> dict[str, client.Counter]:
    return Tree(tree_of(service)).counters().ioctls


@contextlib.contextmanager
def reading(path: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that reads a trace, once it does."""
    with subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE) as process:
        try:
            eventually(lambda: any(path.samefile(one) for one in descriptors(process.pid)))
            yield process
        finally:
            process.kill()


def descriptors(pid: int) -> list[str]:
    found = []
    for one in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            if (target := os.readlink(one)).startswith("/run/"):
                found.append(target)
    return found


def line_with(process: "subprocess.Popen[bytes]", text: str) -> str:
    """The first line that the program prints which has this in it."""
    assert process.stdout
    waiting, data = select.poll(), b""
    waiting.register(process.stdout, select.POLLIN)
    while True:
        assert waiting.poll(20_000), f"{text} did not come: {data!r}"
        read = os.read(process.stdout.fileno(), 65536)
        assert read, f"it ended without {text}: {data!r}"
        data += read
        for line in data.decode().splitlines():
            if text in line:
                return line


def work(path: Path, rounds: int, errors: int) -> None:
    """``rounds + 2`` CIOCCRYPT, three sessions, and errors."""
    with CryptoDevice(path) as device, device.cipher("aes-cbc", KEY) as session:
        for _ in range(rounds):
            session.encrypt(PLAINTEXT, iv=IV)
        for _ in range(errors):
            with contextlib.suppress(OSError):
                call(device, "CIOCGSESSION", session_op(cipher=99))
        device.hmac("sha256", MAC_KEY, PLAINTEXT).hexdigest()


def call(device: CryptoDevice, name: str, op: tuple[int, ...]) -> None:
    file: OpenFile = device._file
    file.call(name, op)


@node
@needs_status
def test_every_file_under_load_and_its_sums(device: Service, tmp_path: Path) -> None:
    folder, rounds, errors = tree_of(device), 100, 7
    assert sorted(os.listdir(folder)) == FILES
    said: dict[str, bytes] = dict.fromkeys(FILES, b"")
    seen: list[int] = []
    done: list[None] = []

    def work_on() -> None:
        end = time.monotonic() + 60
        while len(seen) < 5 and time.monotonic() < end:
            work(device.path, rounds, errors)
            done.append(None)

    def read_all() -> None:
        while len(seen) < 5:
            for name in FILES[:-1]:
                said[name] += (folder / name).read_bytes()
            if one := counts(device).get("CIOCCRYPT"):
                seen.append(one.count)

    everybody = [threading.Thread(target=read_all)]
    everybody += [threading.Thread(target=work_on) for _ in range(3)]
    for one in everybody:
        one.start()
    for one in everybody:
        one.join()
    with reading(folder / "trace", "cat") as cat:
        traced = 2
        for _ in range(traced):
            work(device.path, rounds, errors)
            done.append(None)
        times = len(done)
        eventually(lambda: counts(device)["CIOCCRYPT"].count == times * (rounds + 2))
        found = counts(device)
        assert cat.stdout
        lines = traced * (rounds + 2 + 3 + 3 + 1 + errors)
        while said["trace"].count(b"\n") < lines:
            said["trace"] += os.read(cat.stdout.fileno(), 65536)
    assert seen == sorted(seen)
    assert len(seen) >= 5
    sums = found["CIOCCRYPT"]
    assert sums.bytes == times * (rounds + 1) * len(PLAINTEXT)
    assert not sums.failed
    assert sums.buckets[-1][1] == sums.count
    assert sums.seconds > 0
    sessions = found["CIOCGSESSION"]
    assert sessions.errors == {"EINVAL": times * errors}
    assert sessions.count == times * (errors + 3)
    assert found["CIOCFSESSION"].count == times * 3
    assert Tree(folder).sessions() == []
    assert Tree(folder).counters().totals["open_files"] == 0
    assert said["trace"].count(b"\n") == lines
    assert said["trace"].count(b"CIOCCRYPT") == traced * (rounds + 2)
    assert device.path.name.encode() in said["info"]
    shows_no_secret(said, device)


def shows_no_secret(said: dict[str, bytes], device: Service) -> None:
    """Nowhere: no file, no log; not as bytes, nor in hexadecimal."""
    device.stop()
    said["log"] = device.said().encode()
    for name, text in said.items():
        for secret in (KEY, MAC_KEY, PLAINTEXT):
            for spelled in (secret, secret.hex().encode(), secret[:8], secret[:8].hex().encode()):
                assert spelled not in text, name


@node
@needs_status
def test_sessions_of_whom(shared: Service) -> None:
    os.chmod(shared.path, 0o666)
    tree = Tree(tree_of(shared))
    with CryptoDevice(shared.path) as device, device.cipher("aes-cbc", KEY) as session:
        for _ in range(5):
            session.encrypt(PLAINTEXT)
        eventually(lambda: tree.sessions()[0].operations == 5)
        (one,) = tree.sessions()
        assert (one.pid, one.uid, one.algorithm) == (os.getpid(), 0, "cbc(aes)")
        assert one.bytes == 5 * len(PLAINTEXT)
        assert one.command == Path("/proc/self/comm").read_text().strip()
        assert tree.counters().totals == {"open_files": 1, "sessions": 1, "trace_dropped_total": 0}
        as_nobody = subprocess.run(
            [sys.executable, "-c", NOBODY, str(tree.folder)], capture_output=True, text=True
        )
    assert as_nobody.stdout.split() == ["info", "yes", "sessions", "no", "counters", "13",
                                        "metrics", "13", "trace", "13"]  # fmt: skip
    assert tree.sessions() == []


NOBODY = """
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for name in ("info", "sessions", "counters", "metrics", "trace"):
    try:
        lines = open(sys.argv[1] + "/" + name).readlines()
        print(name, "yes" if len(lines) > 1 else "no")
    except OSError as error:
        print(name, error.errno)
"""

EXPECTED = r"""
ioctl\(#F, CIOCGSESSION, \{cipher=CRYPTO_AES_CBC, mac=0, keylen=16, key=P, mackeylen=0, mackey=NULL\} => \{ses=(0x\w+)\}\) = 0 <S> \{read key 16 US; NEW_SESSION 16\+0 -> 0 US\}
ioctl\(#F, CIOCCRYPT, \{ses=\1, op=COP_ENCRYPT, flags=0, len=32, src=P, dst=P, mac=NULL, iv=P\}\) = 0 <S> \{read iv 16 #H, src 32 #H US; CRYPT 16\+32 -> 32\+0 US; write dst 32 #H US\}
ioctl\(#F, CIOCCRYPT, \{ses=\1, op=COP_DECRYPT, flags=COP_FLAG_WRITE_IV, len=32, src=P, dst=P, mac=NULL, iv=P\}\) = 0 <S> \{read iv 16 #H, src 32 #H US; CRYPT 16\+32 -> 32\+0 US; write dst 32 #H, iv 16 #H US\}
ioctl\(#F, CIOCCRYPT, \{ses=\1, op=COP_ENCRYPT, flags=0, len=17, src=P, dst=P, mac=NULL, iv=P\}\) = -1 EINVAL \(Invalid argument\) <S> \{read iv 16 #H US\}
ioctl\(#F, CIOCCRYPT, \{ses=\1, op=COP_ENCRYPT, flags=0, len=32, src=0x8, dst=P, mac=NULL, iv=P\}\) = -1 EFAULT \(Bad address\) <S> \{read iv 16 #H US\}
ioctl\(#F, 0x4004636a, 0x\w+\) = -1 EINVAL \(Invalid argument\) <S>
ioctl\(#F, CIOCFSESSION, \[\1\]\) = 0 <S> \{END_SESSION 0 -> 0 US\}
"""  # noqa: E501


def known_program(path: Path) -> None:
    """What EXPECTED is the trace of."""
    import ctypes
    import fcntl

    buffers = {name: ctypes.create_string_buffer(data, len(data)) for name, data in
               {"key": KEY, "src": PLAINTEXT, "dst": bytes(32), "iv": IV}.items()}  # fmt: skip
    at = {name: ctypes.addressof(buffer) for name, buffer in buffers.items()}
    with CryptoDevice(path) as device:
        file: OpenFile = device._file
        made = file.call("CIOCGSESSION", session_op(cipher=11, keylen=16, key=at["key"]))
        op = crypt_op(ses=made.ses, len=32, src=at["src"], dst=at["dst"], iv=at["iv"])
        file.call("CIOCCRYPT", op)
        file.call("CIOCCRYPT", op._replace(op=1, flags=4, src=at["dst"]))
        for wrong in (op._replace(len=17), op._replace(src=8)):
            with contextlib.suppress(OSError):
                file.call("CIOCCRYPT", wrong)
        with contextlib.suppress(OSError):
            fcntl.ioctl(file.fileno(), 0x4004636A, bytes(4))
        file.call("CIOCFSESSION", number(made.ses))


@node
@needs_status
def test_the_trace_of_a_known_program(shared: Service, node_kind: str) -> None:
    with reading(tree_of(shared) / "trace", "cat") as cat:
        known_program(shared.path)
        line_with_end = line_with(cat, "CIOCFSESSION")
        cat.send_signal(signal.SIGINT)
    assert "CIOCFSESSION" in line_with_end
    traced = traced_lines(shared)
    pattern = EXPECTED.strip()
    for letter, what in {"P": r"0x\\w+", "S": r"\\d+\\.\\d+", "US": r"\\d+\\.\\dus", "H": r"\\w{8}",
                         "F": r"\\d+"}.items():  # fmt: skip
        pattern = re.sub(rf"\b{letter}\b", what, pattern)
    if node_kind == "cuse":
        pattern = pattern.replace("0x4004636a, 0x", "0x4004636a, 0x")
    assert re.fullmatch(pattern, "\n".join(traced)), "\n".join(traced)


def test_an_asynchronous_hash_is_traced(shared: Service) -> None:
    """No memory of the caller is written while it is submitted."""
    file, data, digest = File(shared.path), Memory(bytes(64)), Memory(bytes(32))
    with reading(tree_of(shared) / "trace", "cat"):
        ses = file.session(mac=SHA256)
        job = crypt_op(ses=ses, len=64, src=data.address, mac=digest.address)
        file.ioctl("CIOCASYNCCRYPT", job)
        file.ioctl("CIOCASYNCFETCH", job)
    os.close(file.fd)
    assert bytes(digest) == hashlib.sha256(bytes(64)).digest()


def traced_lines(service: Service) -> list[str]:
    """Of the known program, without time and process."""
    stream = Tree(tree_of(service)).trace(Wishes(), ready=lambda: known_program(service.path))
    found = []
    for line in stream:
        found.append(line.partition(f"[pid {os.getpid()}] ")[2])
        if "CIOCFSESSION" in line:
            stream.close()
            return found
    raise AssertionError(found)


@node
@needs_status
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_reader_that_waits_can_be_ended(shared: Service, number: signal.Signals) -> None:
    with reading(tree_of(shared) / "trace", "cat") as cat:
        began = time.monotonic()
        cat.send_signal(number)
        cat.wait(timeout=10)
        assert time.monotonic() - began < 5


@node
@needs_status
@pytest.mark.parametrize("command", [["tail", "-f"], ["grep", "--line-buffered", "CIOCC"]])
def test_programs_that_follow(shared: Service, command: list[str]) -> None:
    with reading(tree_of(shared) / "trace", *command) as program:
        eventually(lambda: seen_reading(program.pid))
        for _ in range(2):
            work(shared.path, 3, 0)
            assert "COP_ENCRYPT" in line_with(program, "CIOCCRYPT")


def seen_reading(pid: int) -> bool:
    """It sleeps: it waits for what comes."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@node
@needs_status
def test_poll_and_non_blocking_reads(shared: Service) -> None:
    fd = os.open(tree_of(shared) / "trace", os.O_RDONLY | os.O_NONBLOCK)
    try:
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        assert not waiting.poll(0)
        with pytest.raises(BlockingIOError):
            os.read(fd, 100)
        work(shared.path, 1, 0)
        assert waiting.poll(10_000)
        assert b"CIOCGSESSION" in os.read(fd, 200)
    finally:
        os.close(fd)


@node
@needs_status
def test_a_reader_that_stops_blocks_nobody_and_is_told(shared: Service) -> None:
    """Also with a full pipe behind it."""
    trace = tree_of(shared) / "trace"
    fd = os.open(trace, os.O_RDONLY)
    try:
        with CryptoDevice(shared.path) as device, device.cipher("aes-cbc", KEY) as session:
            full = os.stat(trace).st_size + ROOM
            end = time.monotonic() + 60
            while os.stat(trace).st_size < full:
                assert time.monotonic() < end, "its queue does not get full"
                session.encrypt(PLAINTEXT, iv=IV)
            for _ in range(100):
                session.encrypt(PLAINTEXT, iv=IV)
            data = b""
            while b" dropped" not in data:
                assert time.monotonic() < end, "it was not told"
                data = data[-100:] + os.read(fd, 1 << 17)
        assert int(re.findall(rb"(\d+) dropped", data)[0]) > 0
    finally:
        os.close(fd)


@node
@needs_status
def test_wishes_of_a_reader(shared: Service) -> None:
    wishes = Wishes(json=True, errno={"EINVAL"}, ioctl={"CIOCGSESSION"}, pid={os.getpid()})
    tree = Tree(tree_of(shared))
    line = next(tree.trace(wishes, ready=lambda: work(shared.path, 3, 1)))
    event = json.loads(line)
    assert (event["ioctl"], event["errno"], event["uid"]) == ("CIOCGSESSION", "EINVAL", 0)
    everything = Wishes(json=True, data=True, ioctl={"CIOCGSESSION", "CIOCCRYPT"})
    stream = tree.trace(everything, ready=lambda: work(shared.path, 1, 0))
    session, crypt = json.loads(next(stream)), json.loads(next(stream))
    (key,) = session["hops"][0]["parts"]
    assert key.keys() == {"member", "address", "bytes"}
    parts = {part["member"]: part.get("data") for part in crypt["hops"][0]["parts"]}
    assert parts == {"iv": IV.hex(), "src": PLAINTEXT.hex()}
    with pytest.raises(OSError, match="Invalid argument"):
        write_wishes(tree, b'{"rubbish": 1}')


def write_wishes(tree: Tree, text: bytes) -> None:
    fd = os.open(tree.folder / "trace", os.O_RDWR)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


@node
@needs_status
def test_keys_and_data_do_not_reach_who_did_not_ask(shared: Service) -> None:
    tree = Tree(tree_of(shared))
    modest = tree.trace(Wishes(json=True), ready=lambda: None)
    greedy = tree.trace(
        Wishes(json=True, data=True, keys=True), ready=lambda: work(shared.path, 1, 0)
    )
    fd = os.open(tree.folder / "trace", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert KEY.hex() in next(greedy)
        work(shared.path, 1, 0)
        assert PLAINTEXT.hex() in next(greedy)
        assert KEY.hex() not in next(modest)
        eventually(lambda: bool(select.select([fd], [], [], 0)[0]))
        text = os.read(fd, 1 << 17)
        assert b"CIOCGSESSION" in text
        assert KEY.hex().encode() not in text
        assert b"key 16 #" not in text
        assert PLAINTEXT.hex().encode() not in text
    finally:
        os.close(fd)


@node
@needs_status
@pytest.mark.parametrize("who", ["device", "status"])
def test_nothing_stays_of_what_was_killed(start_up: StartDevice, who: str) -> None:
    service = start_up("--engine", "null")
    folder, front = tree_of(service), service.child("device")
    serving = status_process(folder)
    os.kill(front if who == "device" else serving, signal.SIGKILL)
    if who == "status":
        eventually(lambda: not alive(serving))
        work(service.path, 3, 1)
    else:
        eventually(lambda: serves(folder) and status_process(folder) not in (0, serving))
        eventually(lambda: service.path.exists())
    assert service.stop() == 0
    assert not folder.exists()
    assert mount_type(folder) is None
    assert not status_process(folder)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def serves(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return "node:" in (folder / "info").read_text()
    return False


def status_process(folder: Path) -> int:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"status-tree {folder}" in entry.read_text().rstrip("\0 "):
                return int(entry.parent.name)
    return 0


@node
def test_off_and_elsewhere(start_up: StartDevice, tmp_path: Path) -> None:
    off = start_up("--engine", "null", "--status", "off")
    assert not tree_of(off).exists()
    if mount.why_no_status() is None:
        elsewhere = start_up("--engine", "null", "--status", str(tmp_path / "here"))
        assert sorted(os.listdir(tmp_path / "here")) == FILES
        assert elsewhere.stop() == 0
        assert not (tmp_path / "here").exists()


@node
def test_without_pyfuse3_there_is_a_line(tmp_path: Path, node_kind: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pyfuse3' else find(name, *a)\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{tmp_path}:{before}"
    try:
        service = start("up", "--name", fresh_name(), "--node", node_kind, "--engine", "null")
    finally:
        os.environ["PYTHONPATH"] = before
    assert service.stop() == 0
    assert "no status files: pyfuse3 is not installed; " in service.said()


def test_a_ring_keeps_order_and_counts_what_has_no_room() -> None:
    board = Board(2)
    writer, reader = RingWriter(board, 1), RingReader(board, 1)
    records = [os.urandom(size) for size in (1, 1000, RING // 2, 77)]
    for record in records:
        writer.put(record)
    assert list(reader.take()) == records
    for _ in range(5):
        writer.put(bytes(RING // 3))
    assert board.region(1)[DROPPED] == 3
    assert [len(record) for record in reader.take()] == [RING // 3] * 2
    assert board.region(1)[HEAD] == board.region(1)[TAIL]


def test_a_ring_survives_any_tail() -> None:
    board = Board(1)
    writer = RingWriter(board, 0)
    for tail in (1, (1 << 64) - 1, 1 << 63):
        board.region(0)[TAIL] = tail
        writer.put(b"something")
    assert board.region(0)[DROPPED] == 3
    board.region(0)[TAIL] = 0
    writer.put(b"something")
    assert list(RingReader(board, 0).take()) == [b"something"]


def test_seats_are_given_again() -> None:
    board = Board(1)
    seats = Seats(board)
    one = seats.take(Seat(0, 0, 1, 5, 11, 0, 42, 7, 99))
    one[0] += 3
    assert list(board.seats()) == [Seat(3, 0, 1, 5, 11, 0, 42, 7, 99)]
    seats.give(1, 5)
    assert list(board.seats()) == []
    seats.take(Seat(0, 0, 2, 6, 0, 104, 43, 8, 100))
    assert [seat.ses for seat in board.seats()] == [6]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"pid": 1}', b'{"pid": ["a"]}', b'{"json": 1}', b'{"no": []}', b"\xff"]
)
def test_what_is_no_wish(text: bytes) -> None:
    with pytest.raises(WishError):
        Wishes.parse(text)


def test_wishes_there_and_back() -> None:
    wishes = Wishes(json=True, keys=True, pid={3, 1}, errno={"0"})
    assert Wishes.parse(wishes.dump()) == wishes
