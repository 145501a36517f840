"""process_vm_writev(2): the memory of another process, with the rights of this one."""

import ctypes

from cuse_crypto.linux.libc import checked, libc

_writev = libc.process_vm_writev
_writev.argtypes = [
    ctypes.c_int,
    *(ctypes.c_void_p, ctypes.c_ulong),
    *(ctypes.c_void_p, ctypes.c_ulong),
    ctypes.c_ulong,
]
_writev.restype = ctypes.c_ssize_t


def write(thread: int, address: int, data: bytes) -> int:
    """Bytes written; OSError where the page is not there or not writable by its own process."""
    here = ctypes.create_string_buffer(data, len(data))
    local = (ctypes.c_size_t * 2)(ctypes.addressof(here), len(data))
    remote = (ctypes.c_size_t * 2)(address, len(data))
    return checked(_writev(thread, local, 1, remote, 1, 0))
