"""The front end before a kernel that is a socket, with ioctls of a caller that sleeps.

Every request gets its one answer, none of them EIO, and nothing is called a bug.
"""

import errno
import logging
import mmap
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.frontend.server import Server
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.channel import Channel
from cuse_crypto.fuse.node import Attributes, Kind
from cuse_crypto.fuse.protocol import BY_NAME, IN_HEADER, OUT_HEADER
from cuse_crypto.layout import Layout, Width
from cuse_crypto.wire.address import Address
from tests.fuzz.choices import Choices
from tests.fuzz.dispatcher import CIPHER_IDS, MAC_IDS, Complaints
from tests.fuzz.target import Run
from tests.test_front_and_back import Backend

ROWS = [row for row in ioctls.IOCTLS if row.name != "CRIOGET"]
"""That one needs a caller that is really there, in an ioctl."""
SESSION = next(row for row in ROWS if row.name == "CIOCGSESSION")
USUAL = [row for row in ROWS if row.name in ("CIOCCRYPT", "CIOCAUTHCRYPT")]
SIZE = 1 << 18
"""Bytes of the caller's memory."""
MOST = 8
"""Requests of one input."""
DEADLINE = 10.0
OTHERS = "FUSE_POLL", "FUSE_GETATTR", "FUSE_SETATTR", "FUSE_STATFS", "FUSE_READ", "FUSE_INTERRUPT"


class FakeNode:
    """A node whose kernel is the other end of a socket that keeps messages apart."""

    kind: Kind = "mounted"
    path = Path("/dev/null")
    lock = -1

    def __init__(self) -> None:
        ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(ours.detach())
        self.attributes = Attributes()

    def waiting(self) -> int:
        """Nothing."""
        return 0

    def abort(self) -> None:
        """As an unmount does."""
        self.kernel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptors back."""
        self.channel.close()
        self.kernel.close()


class Sleeper:
    """The caller: a process of which ``memory`` is at ``begin``, and read-only at ``frozen``."""

    def __init__(self) -> None:
        fd = os.memfd_create("cuse-crypto-fuzz")
        os.ftruncate(fd, SIZE)
        self.memory = mmap.mmap(fd, SIZE)
        self.memory[:] = bytes(index * 7 & 0xFF for index in range(SIZE))
        words = [sys.executable, "-m", "tests.fuzz.sleeper", str(fd), str(SIZE)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[fd]
        )
        os.close(fd)
        assert self._process.stdout
        self.begin, self.frozen = map(int, self._process.stdout.readline().split())
        self.pid = self._process.pid

    def close(self) -> None:
        """End it: its memory may be anything by now."""
        self._process.kill()
        self._process.communicate()
        self.memory.close()


class Kernel:
    """Sends requests, and takes their answers."""

    def __init__(self, kernel: socket.socket) -> None:
        self._socket = kernel
        self._poll = select.poll()
        self._poll.register(kernel, select.POLLIN)
        self._unique = 0

    def ask(self, number: int, body: bytes, pid: int, answered: bool = True) -> tuple[int, bytes]:
        """Errno and body of the one answer."""
        self._unique += 2
        header = protocol.fuse_in_header(
            IN_HEADER.size + len(body), number, self._unique, 1, 0, 0, pid, 0, 0
        )
        self._socket.send(IN_HEADER.bytes(header) + body)
        while answered:
            assert self._poll.poll(DEADLINE * 1000), f"no answer to {number} {body.hex()}"
            data = self._socket.recv(1 << 18)
            out = OUT_HEADER.read(data)
            assert out.len == len(data)
            if out.unique == 0:
                continue  # a notice
            assert out.unique == self._unique, "another answer to an earlier request"
            assert 0 <= -out.error < 512
            return -out.error, data[OUT_HEADER.size :]
        return 0, b""

    def silent(self) -> bool:
        """Nothing has come that was not asked for."""
        return not self._poll.poll(0)


class Driver:
    """One open file, and what is asked of it."""

    def __init__(self, choices: Choices, kernel: Kernel, sleeper: Sleeper) -> None:
        self.choices, self.kernel, self.sleeper = choices, kernel, sleeper
        request, reply = protocol.layouts("FUSE_OPEN")
        number, body = kernel.ask(14, request.bytes(protocol.fuse_open_in(2, 0)), sleeper.pid)
        assert number == 0
        self.fh: int = reply.read(body).fh
        self.sessions: dict[int, int] = {}
        """Their ciphers, by their numbers."""
        self._cipher = self._mac = 0
        self._usual, self._authenticates = [0], False

    def release(self) -> None:
        """The end of the file."""
        row = BY_NAME["FUSE_RELEASE"]
        assert row.request
        body = row.request.bytes(protocol.fuse_release_in(self.fh, 0, 0, 0))
        assert self.kernel.ask(row.number, body, 0)[0] == 0
        assert self.kernel.silent()

    def step(self) -> str:
        """One request; what came of it."""
        if self.choices.chance(16):
            return self._other()
        begins = not self.sessions and not self.choices.chance(4)
        row = SESSION if begins or self.choices.chance(8) else self._row()
        width: Width = 32 if self.choices.chance(8) else 64
        layout = ioctls.layout_of(row, width)
        data = bytearray(layout.bytes(self._structure(row.name, layout)))
        self.choices.change(data) if self.choices.chance(16) else None
        where = self._pointer() if self.choices.chance(8) else self.sleeper.begin
        if where == self.sleeper.begin:
            self.sleeper.memory[: len(data)] = bytes(data)
        flags = protocol.IoctlFlag.COMPAT * (width == 32)
        sizes = len(data), len(data)
        if self.choices.chance(4):
            flags, sizes, data = flags | protocol.IoctlFlag.UNRESTRICTED, (0, 0), bytearray()
        cmd = row.number(width) if not self.choices.chance(32) else self.choices.number(4)
        head = protocol.fuse_ioctl_in(self.fh, flags, cmd, where, *sizes)
        number, _ = self._ask("FUSE_IOCTL", protocol.layouts("FUSE_IOCTL")[0].bytes(head) + data)
        if row.name == "CIOCGSESSION" and number == 0 and where == self.sleeper.begin:
            self.sessions[layout.read(self.sleeper.memory[: layout.size]).ses] = self._cipher
        return f"{row.name} {errno.errorcode.get(number, number)}"

    def _row(self) -> ioctls.Ioctl:
        return self.choices.pick(USUAL if self.choices.chance(2) else ROWS)

    def _ask(self, name: str, body: bytes) -> tuple[int, bytes]:
        row = BY_NAME[name]
        number, reply = self.kernel.ask(row.number, body, self.sleeper.pid, row.answered)
        assert number != errno.EIO, f"{name} {body.hex()} was answered with EIO"
        return number, reply

    def _other(self) -> str:
        name = self.choices.pick(OTHERS)
        row = BY_NAME[name]
        body = bytearray(self.choices.take(row.request.size if row.request else 0))
        if name == "FUSE_INTERRUPT":
            # Of a request that is not known; the kernel is to ask again.
            number = self.kernel.ask(row.number, bytes(body), self.sleeper.pid)[0]
            assert number == errno.EAGAIN
            return name
        if name == "FUSE_POLL":
            body[:8] = self.fh.to_bytes(8, "little")
        return f"{name} {self._ask(name, bytes(body))[0]}"

    def _pointer(self) -> int:
        sleeper, offset = self.sleeper, 1024 + self.choices.number(2)
        what = self.choices.number() % 32
        if what < 26:
            return sleeper.begin + offset
        return (
            0,
            1,
            sleeper.begin + SIZE - self.choices.number(),
            sleeper.frozen + offset,
            0xFFFF_8880_0000_0000,
            self.choices.number(8),
        )[what - 26]

    def _length(self) -> int:
        if self.choices.chance(32):
            return self.choices.number(4)
        size = self.choices.number(2) if self.choices.chance(8) else self.choices.number()
        return size if self.choices.chance(4) else size & ~15

    def _structure(self, name: str, layout: Layout[Any]) -> Any:
        values: dict[str, Any] = {}
        self._usual, self._authenticates = [0], name == "CIOCAUTHCRYPT"
        for member in layout.fields:
            most = (1 << 8 * member.size) - 1
            if member.code.endswith("s"):
                values[member.name] = self.choices.take(member.size)
            elif member.name in (SECRETS if name == "CIOCGSESSION" else POINTERS):
                values[member.name] = self._pointer() & most
            else:
                values[member.name] = self._number(member.name) & most
        if values.get("flags", 0) & 0x30 and "auth_src" in values and not self.choices.chance(16):
            self._in_place(values)
        return layout.record(**values)

    def _in_place(self, values: dict[str, Any]) -> None:
        """As TLS and SRTP work; SRTP authenticates what lies around the source, too."""
        values["dst"] = values["src"]
        values["len"] &= 0xFFF
        if values["flags"] & 0x20:
            before = min(self.choices.number() % 32, values["src"])
            values["auth_src"] = values["src"] - before
            values["auth_len"] = before + values["len"] + self.choices.number() % 32

    def _number(self, member: str) -> int:
        choices = self.choices
        if member in ("ses", "dst_ses", "src_ses", "value"):
            known = self.sessions and not choices.chance(16)
            ses = choices.pick(list(self.sessions)) if known else choices.number()
            self._cipher = self.sessions.get(ses, 0)
            if self._authenticates and self._cipher not in AEADS:
                self._usual = [0x10, 0x20]
            return ses
        if member == "cipher":
            some = AEADS if choices.chance(4) else CIPHER_IDS
            self._cipher = choices.pick(some) if not choices.chance(4) else 0
            return self._cipher if not choices.chance(32) else choices.number()
        if member == "mac":
            self._mac = choices.pick(MAC_IDS) if choices.chance(2) or not self._cipher else 0
            return self._mac
        if member == "keylen":
            sizes = CIPHERS[self._cipher].key_sizes if self._cipher else (0,)
            return choices.pick(sizes) if not choices.chance(16) else choices.number(2)
        if member == "mackeylen":
            keyed = self._mac and MACS[self._mac].is_keyed
            return choices.number(2) % 514 if keyed else 0
        if member == "op":
            return choices.number() % 2 if not choices.chance(32) else choices.number(2)
        if member == "flags":
            return choices.number() % 128 if choices.chance(4) else choices.pick(self._usual)
        if member == "tag_len":
            return choices.pick([0, 0, 0, 16, 16, 12, 20, choices.number()])
        if member == "iv_len":
            size = CIPHERS[self._cipher].iv_size if self._cipher else 0
            return size if not choices.chance(8) else choices.number()
        return self._length()


AEADS = [number for number in CIPHER_IDS if CIPHERS[number].is_aead]
SECRETS = {"key", "mackey"}
POINTERS = {"src", "dst", "mac", "iv", "auth_src", "tag"}


@contextmanager
def frontend() -> Iterator[Run]:
    """A front end, its back end, and a caller."""
    complaints = Complaints()
    with ExitStack() as stack:
        for name in ("cuse_crypto", "cuse_crypto_backend"):
            log = logging.getLogger(name)
            log.addHandler(complaints)
            stack.callback(log.removeHandler, complaints)
            log.propagate = False
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cuse-crypto-fuzz-"))
        backend = Backend(Address.parse(f"unix:{folder}/s"))
        stack.callback(backend.stop)
        sleeper = Sleeper()
        stack.callback(sleeper.close)
        node = FakeNode()
        stack.callback(node.close)
        serving = Server(node, backend.address, workers=2, deadline=DEADLINE)
        thread = threading.Thread(target=trio.run, args=[serving.run], daemon=True)
        thread.start()
        stack.callback(thread.join, DEADLINE)
        stack.callback(node.abort)
        kernel = Kernel(node.kernel)

        def run(data: bytes) -> str:
            choices = Choices(data)
            driver = Driver(choices, kernel, sleeper)
            count, last = 0, "nothing"
            while count < MOST and choices.left:
                last = driver.step()
                count += 1
            driver.release()
            assert not complaints.seen, complaints.seen.pop()
            return last

        yield run
