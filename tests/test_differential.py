"""Two routes to the same answer: OpenSSL behind one device, and the engine ``cryptodev`` behind
another, whose host's device is the first. Random sequences of operations, valid and not, must end
in the same bytes and errnos on both.
"""

import ctypes
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuse_crypto.abi import ioctls
from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.abi.structs import cphash_op, crypt_auth_op, crypt_op, number, session_op
from tests.conftest import Service, StartDevice

pytestmark = pytest.mark.node

ROWS = {row.name: row for row in ioctls.IOCTLS}
Step = tuple[str, dict[str, Any]]
SIZE = 512
"""Of every buffer: a caller's memory is always there here; where it is not is tested elsewhere."""


class Route:
    """A program on one of the devices; ``run`` tells all that it can see of a step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._sessions: list[int] = []

    def __enter__(self) -> "Route":
        self._fd = os.open(self._path, os.O_RDWR)
        self._sessions = []
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)

    def _ioctl(self, name: str, op: Any) -> Any:
        layout = ioctls.layout_of(ROWS[name], 64)
        argument = bytearray(layout.bytes(op))
        fcntl.ioctl(self._fd, ROWS[name].number(64), argument)
        return layout.read(argument)

    def _number(self, index: int) -> int:
        return self._sessions[index % len(self._sessions)] if self._sessions else index

    def run(self, name: str, arguments: dict[str, Any]) -> object:
        """The bytes that a step gives, or its errno."""
        try:
            return getattr(self, name)(**arguments)
        except OSError as error:
            return error.errno

    def session(self, cipher: int, mac: int, key: bytes, mac_key: bytes) -> bytes:
        buffers = [ctypes.create_string_buffer(part, max(len(part), 1)) for part in (key, mac_key)]
        op = session_op(
            cipher=cipher,
            mac=mac,
            keylen=len(key),
            key=ctypes.addressof(buffers[0]),
            mackeylen=len(mac_key),
            mackey=ctypes.addressof(buffers[1]),
        )
        self._sessions.append(self._ioctl("CIOCGSESSION", op).ses)
        return b""

    def finish(self, index: int) -> bytes:
        self._ioctl("CIOCFSESSION", number(self._number(index)))
        return b""

    def copy(self, target: int, source: int) -> bytes:
        op = cphash_op(dst_ses=self._number(target), src_ses=self._number(source))
        self._ioctl("CIOCCPHASH", op)
        return b""

    def crypt(
        self, index: int, op: int, flags: int, iv: bytes | None, data: bytes, length: int
    ) -> bytes:
        src, dst, mac = (ctypes.create_string_buffer(SIZE) for _ in range(3))
        src.raw = data.ljust(SIZE, b"\0")
        given = ctypes.create_string_buffer(iv or b"", 16)
        request = crypt_op(
            ses=self._number(index),
            op=op,
            flags=flags,
            len=length,
            src=ctypes.addressof(src),
            dst=ctypes.addressof(dst),
            mac=ctypes.addressof(mac),
            iv=ctypes.addressof(given) if iv is not None else 0,
        )
        self._ioctl("CIOCCRYPT", request)
        return dst.raw + mac.raw + given.raw

    def auth(
        self,
        index: int,
        op: int,
        flags: int,
        iv: bytes,
        data: bytes,
        auth_length: int,
        length: int,
        tag_size: int,
    ) -> bytes:
        """In place; what is authenticated lies directly before, as SRTP wants it."""
        whole, tag = ctypes.create_string_buffer(2 * SIZE), ctypes.create_string_buffer(SIZE)
        whole.raw = data.ljust(2 * SIZE, b"\0")
        start = ctypes.addressof(whole)
        given = ctypes.create_string_buffer(iv, 16)
        request = crypt_auth_op(
            ses=self._number(index),
            op=op,
            flags=flags,
            len=length,
            auth_len=auth_length + (length if flags & 0x20 else 0),
            auth_src=start,
            src=start + auth_length,
            dst=start + auth_length,
            tag=ctypes.addressof(tag),
            tag_len=tag_size,
            iv=ctypes.addressof(given),
            iv_len=16,
        )
        done = self._ioctl("CIOCAUTHCRYPT", request)
        return whole.raw + tag.raw + given.raw + bytes(f"{done.len} {done.tag_len}", "ascii")


cipher_keys = st.sampled_from([0, 8, 16, 24, 32, 48, 64, 65, 5, 17])
indices = st.integers(0, 3)
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda cipher, mac, size, mac_size: (
            "session",
            {
                "cipher": cipher,
                "mac": mac,
                "key": bytes(range(1, size + 1)),
                "mac_key": bytes(range(2, mac_size + 2)),
            },
        ),
        st.sampled_from([0, *CIPHERS, 4, 999]),
        st.sampled_from([0, 0, *MACS, 5, 999]),
        cipher_keys,
        st.sampled_from([0, 1, 20, 64, 65, 130]),
    ),
    st.builds(lambda index: ("finish", {"index": index}), indices),
    st.builds(
        lambda target, source: ("copy", {"target": target, "source": source}), indices, indices
    ),
    st.builds(
        lambda index, op, flags, iv, data, length: (
            "crypt",
            {"index": index, "op": op, "flags": flags, "iv": iv, "data": data, "length": length},
        ),
        indices,
        st.sampled_from([0, 0, 1, 1, 2]),
        st.sampled_from([0, 0, 1, 2, 3, 4, 8, 12, 0x40, 0x41, 0x42, 0x80]),
        st.one_of(st.none(), st.binary(min_size=16, max_size=16)),
        st.binary(max_size=SIZE),
        st.sampled_from([0, 1, 15, 16, 17, 32, 64, 100, 256, SIZE]),
    ),
    st.builds(
        lambda index, op, flags, iv, data, auth_length, length, tag_size: (
            "auth",
            {
                "index": index,
                "op": op,
                "flags": flags,
                "iv": iv,
                "data": data,
                "auth_length": auth_length,
                "length": length,
                "tag_size": tag_size,
            },
        ),
        indices,
        st.sampled_from([0, 0, 1, 1, 2]),
        st.sampled_from([0, 0x10, 0x20, 0x30, 4]),
        st.binary(min_size=15, max_size=15).map(lambda rest: b"\3" + rest),
        st.binary(max_size=SIZE),
        st.sampled_from([0, 1, 13, 256, 257]),
        st.sampled_from([0, 1, 16, 20, 32, 64, 100, 256]),
        st.sampled_from([0, 4, 5, 8, 12, 16, 17, 20, 64, 65]),
    ),
)
# Most sequences begin with sessions that are right, so that they come to something.
good = st.builds(
    lambda cipher, mac: (
        "session",
        {
            "cipher": cipher,
            "mac": mac,
            "key": bytes(range(1, max(CIPHERS[cipher].key_sizes) + 1)) if cipher else b"",
            "mac_key": b"a key" if mac in MACS and MACS[mac].is_keyed else b"",
        },
    ),
    st.sampled_from([0, *CIPHERS]),
    st.sampled_from(list(MACS)),
)


@pytest.fixture(scope="module")
def routes(start_up: StartDevice, openssl_device: Service) -> Iterator[tuple[Route, Route]]:
    os.environ["CUSE_CRYPTO_HOST_DEVICE"] = str(openssl_device.path)
    try:
        second = start_up("--engine", "cryptodev")
    finally:
        del os.environ["CUSE_CRYPTO_HOST_DEVICE"]
    yield Route(openssl_device.path), Route(second.path)
    assert second.stop() == 0


@settings(
    max_examples=int(os.environ.get("DIFFERENTIAL_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(good, max_size=3), st.lists(steps, max_size=12))
def test_both_routes_agree(
    routes: tuple[Route, Route], sessions: list[Step], sequence: list[Step]
) -> None:
    with routes[0] as first, routes[1] as second:
        for name, arguments in sessions + sequence:
            assert first.run(name, arguments) == second.run(name, arguments), (name, arguments)
