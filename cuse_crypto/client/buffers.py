"""Addresses of Python objects: what the buffer protocol shares is passed without a copy.

Knows CPython, and nothing of devices. ``Py_buffer`` is part of the stable ABI since Python 3.11
(PEP 688's predecessor, https://docs.python.org/3/c-api/buffer.html), so its layout is fixed.
"""

import ctypes
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as ReadableBuffer
    from _typeshed import WriteableBuffer as WriteableBuffer


class _Py_buffer(ctypes.Structure):
    """``obj`` stays an opaque pointer: ctypes must not count references to it."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )
    buf: int | None
    len: int


_SIMPLE = 0
_WRITABLE = 1

# Prototypes of our own: ctypes.pythonapi's functions are shared by the whole program.
_get_buffer = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Py_buffer), ctypes.c_int
)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_Py_buffer))(
    ("PyBuffer_Release", ctypes.pythonapi)
)
_bytes_of_size = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)

_nothing = ctypes.create_string_buffer(1)


class Pin:
    """The bytes of an object, held in place: ``address``, and ``size`` in bytes.

    For bytes, bytearray, memoryview, mmap, array, ctypes arrays and whatever else has contiguous
    memory. Until ``release`` (or the end of the ``with`` block) the object stays alive and cannot
    be resized or closed. ``address`` is never 0, also for an empty object: drivers crash on NULL.

    TypeError for what has no buffer, is read-only where ``writable`` is asked for, or is not
    contiguous; ``name`` is the argument that the message names.
    """

    __slots__ = ("_held", "_view", "address", "size")

    def __init__(self, data: "ReadableBuffer", name: str, *, writable: bool = False) -> None:
        self._held = False
        self._view = _Py_buffer()
        kind = "writable buffer" if writable else "bytes-like object"
        try:
            _get_buffer(data, self._view, _WRITABLE if writable else _SIMPLE)
        except (BufferError, TypeError) as error:
            message = f"{name} must be a contiguous {kind}, not {type(data).__name__}: {error}"
            raise TypeError(message) from None
        self._held = True
        self.size: int = self._view.len
        self.address: int = self._view.buf or ctypes.addressof(_nothing)

    def release(self) -> None:
        """Let go of the object; ``address`` is not valid any more. Again is harmless."""
        if self._held:
            self._held = False
            _release_buffer(self._view)

    __del__ = release

    def __enter__(self) -> "Pin":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def copy(self) -> bytes:
        """The bytes as they are now."""
        return ctypes.string_at(self.address, self.size)

    def clear(self, size: int) -> None:
        """Overwrite the first ``size`` bytes with zeros."""
        ctypes.memset(self.address, 0, min(size, self.size))

    def overlaps(self, size: int, other: "Pin", other_size: int) -> bool:
        """Whether the first bytes of both share memory, but do not begin at the same address."""
        first, second = sorted([(self.address, size), (other.address, other_size)])
        return first[0] != second[0] and first[0] + first[1] > second[0]


def new_bytes(size: int) -> bytes:
    """A bytes object for somebody to fill by its address before anybody else sees it.

    Allowed by https://docs.python.org/3/c-api/bytes.html#c.PyBytes_FromStringAndSize (NULL leaves
    the contents uninitialised); it saves the copy out of a bytearray.
    """
    fresh: bytes = _bytes_of_size(None, size)
    return fresh
