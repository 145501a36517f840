"""A front end that dies where it is told to, and programs that use it; see tests.faults.points."""

import contextlib
import ctypes
import fcntl
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.structs import crypt_op, session_op
from tests.conftest import PROJECT, Service, StartDevice, eventually

AES_CBC, AES_GCM, SHA256_HMAC, SHA256 = 11, 50, 18, 104
ROWS = {row.name: row for row in ioctls.IOCTLS}
KEY = bytes(range(16))
LONG = (2 << 20) + 4096
"""Bytes of an operation in several parts."""


class Memory:
    """Bytes at an address."""

    def __init__(self, content: bytes) -> None:
        self._array = ctypes.create_string_buffer(content, len(content))
        self.address = ctypes.addressof(self._array)

    def __bytes__(self) -> bytes:
        return self._array.raw


Members = Mapping[str, int | Memory]


class File:
    """The node, as a C program has it open."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR)

    def ioctl(self, name: str, op: tuple[Any, ...]) -> Any:
        """The structure afterwards."""
        layout = ioctls.layout_of(ROWS[name], 64)
        data = bytearray(layout.bytes(op))
        fcntl.ioctl(self.fd, ROWS[name].number(64), data)
        return layout.read(data)

    def session(self, **members: int | Memory) -> int:
        """Its number."""
        ses: int = self.ioctl("CIOCGSESSION", session_op(**addresses(members))).ses
        return ses

    def crypt(self, **members: int | Memory) -> None:
        self.ioctl("CIOCCRYPT", crypt_op(**addresses(members)))

    def refused(self, **members: int | Memory) -> int:
        """The errno of CIOCCRYPT."""
        with pytest.raises(OSError) as refused:
            self.crypt(**members)
        return refused.value.errno or 0


def addresses(members: Members) -> dict[str, int]:
    """Numbers as they are, and the address of what is memory."""
    return {
        name: value.address if isinstance(value, Memory) else value
        for name, value in members.items()
    }


class Device:
    """An ``up`` whose front end dies where it is told to."""

    def __init__(self, service: Service, point: Path) -> None:
        self.service, self.path, self._point = service, service.path, point

    def _pid(self) -> int:
        """Of the front end; 0 while there is none."""
        with contextlib.suppress(AssertionError, OSError):
            return self.service.child("device")
        return 0

    @contextlib.contextmanager
    def dies(self, where: str, how: str, count: int = 1) -> Iterator[None]:
        """Once, while this is done."""
        with self.dies_again(where, [(how, count)]):
            yield

    @contextlib.contextmanager
    def dies_again(self, where: str, points: Sequence[tuple[str, int]]) -> Iterator[None]:
        """One front end after the other, each at its point."""

        def arm(how: str, count: int) -> None:
            self._point.with_suffix(".next").write_text(f"{where} {how} {count}")
            self._point.with_suffix(".next").rename(self._point)

        def arm_next() -> None:
            for point in points[1:]:
                eventually(lambda: not self._point.exists())
                arm(*point)

        before = self._pid()
        arm(*points[0])
        arming = threading.Thread(target=arm_next)
        arming.start()
        try:
            yield
            arming.join(30)
            # A release is not waited for.
            eventually(lambda: not self._point.exists())
            eventually(lambda: self._pid() not in (0, before))
        finally:
            self._point.unlink(missing_ok=True)
            arming.join(30)


def waiting(name: str) -> int:
    """Requests that the kernel has for a cuse node."""
    return int(Path(f"/sys/class/cuse/{name}/waiting").read_text())


def resends() -> bool:
    """Whether this kernel has FUSE_NOTIFY_RESEND."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 9)


def dying(start_up: StartDevice, point: Path, *options: str) -> Device:
    """An ``up`` that looks at ``point``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULT_POINT", os.fspath(point))
        patch.setenv("PYTHONPATH", os.fspath(PROJECT / "tests" / "faults" / "points"))
        return Device(start_up(*options), point)


def cbc(data: bytes, iv: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(KEY), modes.CBC(iv)).encryptor()
    return encryptor.update(data)
