"""Addresses of Python objects."""

import array
import ctypes
from typing import Any

import pytest

from cuse_crypto.client.buffers import Pin


@pytest.mark.parametrize(
    "data",
    [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array.array("I", [1]), memoryview(b"")],
    ids=lambda data: type(data).__name__,
)
def test_pin_is_the_very_memory(data: Any) -> None:
    with Pin(data, "data") as pin:
        assert pin.address
        assert (pin.size, pin.copy()) == (memoryview(data).nbytes, bytes(data))


def test_pin_does_not_copy() -> None:
    data = bytearray(8)
    with Pin(memoryview(data)[2:], "data", writable=True) as pin:
        ctypes.memset(pin.address, 7, pin.size)
        with pytest.raises(BufferError):
            data.append(1)
    data.append(1)
    assert data == b"\0\0" + b"\7" * 6 + b"\1"


@pytest.mark.parametrize("data", ["text", 5, None, memoryview(b"abcd")[::2]])
def test_pin_refuses(data: Any) -> None:
    with pytest.raises(TypeError, match="data must be a contiguous bytes-like object, not "):
        Pin(data, "data")


def test_pin_refuses_what_is_read_only() -> None:
    with pytest.raises(TypeError, match="out must be a contiguous writable buffer, not bytes"):
        Pin(b"abcd", "out", writable=True)
