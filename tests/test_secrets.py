"""Keys are gone from the front end's memory when their session is; and never in what it says."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cuse_crypto.abi.algorithms import CIPHERS
from cuse_crypto.frontend.files import OpenFiles
from cuse_crypto.frontend.ledger import SHORT
from tests.conftest import Service, StartDevice, eventually

AES_CBC = 11
# Makes sessions with the keys that it is given, works with one, and does as it is told.
PROGRAM = """
import ctypes, fcntl, os, sys
from cuse_crypto.abi import ioctls
from cuse_crypto.abi.structs import crypt_op, session_op
rows = {row.name: row for row in ioctls.IOCTLS}
file = os.open(sys.argv[1], os.O_RDWR)

def ioctl(name, op):
    data = bytearray(ioctls.layout_of(rows[name], 64).bytes(op))
    fcntl.ioctl(file, rows[name].number(64), data)
    return ioctls.layout_of(rows[name], 64).read(data)

def address(data):
    kept.append(ctypes.create_string_buffer(data, len(data)))
    return ctypes.addressof(kept[-1])

kept = []
ended, left, mac, packed, refused = map(bytes.fromhex, sys.stdin.readline().split())
first = ioctl("CIOCGSESSION", session_op(cipher=11, keylen=32, key=address(ended))).ses
both = session_op(cipher=11, keylen=32, key=address(left), mac=107, mackeylen=32,
                  mackey=address(mac))
ioctl("CIOCGSESSION", both)
for wrong in (
    session_op(cipher=11, keylen=31, key=address(refused)),
    session_op(cipher=50, keylen=32, key=address(packed), mackeylen=32, mackey=address(packed)),
):
    try:
        ioctl("CIOCGSESSION", wrong)
    except OSError as error:
        print(error.errno, end=" ")
data = address(bytes(64))
ioctl("CIOCCRYPT", crypt_op(ses=first, len=64, src=data, dst=data, iv=address(bytes(16))))
print(flush=True)
sys.stdin.readline()
number = bytearray(first.to_bytes(4, "little"))
fcntl.ioctl(file, rows["CIOCFSESSION"].number(64), number)
print(flush=True)
sys.stdin.readline()
"""


def memory(pid: int) -> Iterator[bytes]:
    """All that a process can read, a mapping at a time."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as content:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if not found or "[v" in line:
                continue
            start, end = (int(number, 16) for number in found.groups())
            for page in pages(pid, start, end):
                content.seek(page)
                yield content.read(min(end, page + 2 * PAGE) - page)


PAGE = os.sysconf("SC_PAGESIZE")


def pages(pid: int, start: int, end: int) -> list[int]:
    """The addresses of those that are there (proc_pid_pagemap(5)): arenas are mostly empty."""
    with open(f"/proc/{pid}/pagemap", "rb", 0) as pagemap:
        pagemap.seek(start // PAGE * 8)
        entries = memoryview(pagemap.read((end - start) // PAGE * 8)).cast("Q")
    return [start + index * PAGE for index, entry in enumerate(entries) if entry >> 62]


def found(pid: int, *keys: bytes) -> list[bool]:
    """Which of them the process holds; each page is read with the one behind it."""
    held = [False] * len(keys)
    for content in memory(pid):
        held = [before or key in content for before, key in zip(held, keys, strict=True)]
    return held


@pytest.fixture
def caller(start_up: StartDevice) -> Iterator[tuple[Service, "subprocess.Popen[str]", list[bytes]]]:
    service = start_up("--engine", "openssl", "-v")
    keys = [os.urandom(32) for _ in range(5)]
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(service.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdin
        program.stdin.write(" ".join(key.hex() for key in keys) + "\n")
        program.stdin.flush()
        yield service, program, keys


@pytest.mark.node
@pytest.mark.skipif(os.geteuid() != 0, reason="another process's memory is root's to read")
def test_keys_go_with_their_sessions(
    caller: tuple[Service, "subprocess.Popen[str]", list[bytes]],
) -> None:
    service, program, keys = caller
    pid = service.child("device")
    assert program.stdout
    assert program.stdin
    assert program.stdout.readline().split() == [str(errno.EINVAL)] * 2
    # Here the search shows what it can find: the key of each session, and no other.
    assert found(pid, *keys) == [True, True, True, False, False]
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "\n"
    assert found(pid, *keys) == [False, True, True, False, False]
    program.stdin.write("\n")
    program.stdin.close()
    program.wait(timeout=30)
    eventually(lambda: not any(found(pid, *keys)))
    assert service.stop() == 0
    said = service.said()
    assert not any(key.hex() in said or repr(key)[2:-1] in said for key in keys)


def test_an_ended_session_is_not_made_again() -> None:
    key = bytearray(os.urandom(16))
    file = OpenFiles().open()
    session = file.new_session(CIPHERS[AES_CBC], None, key, b"mac")
    assert session.keys() == (key, bytearray(b"mac"))
    ledger = file.ledger.view
    assert bytes(key) in bytes(ledger[session.at : session.at + SHORT])
    assert key.hex() not in repr(session)
    assert repr(bytes(key)) not in repr(session)
    session.end()
    assert bytes(ledger[session.at : session.at + SHORT]) == bytes(SHORT)
    with pytest.raises(OSError, match="ended"):
        session.keys()
