"""``python -m tests.fuzz.sleeper FD SIZE``: a caller that sleeps; its memory is what matters.

Says where memory file FD lies, and where a page lies that can only be read.
"""

import ctypes
import mmap
import sys


def main() -> None:
    """Until standard input ends."""
    fd, size = map(int, sys.argv[1:])
    # Nothing may lie behind it that a write past its end could reach.
    whole = mmap.mmap(-1, 4 * size, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    place = ctypes.addressof(ctypes.c_char.from_buffer(whole))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    fixed, none = 0x10, 0
    begin = place + mmap.PAGESIZE
    for start, length, protection, flags, file in (
        (place, 4 * size, none, fixed | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1),
        (begin, size, mmap.PROT_READ | mmap.PROT_WRITE, fixed | mmap.MAP_SHARED, fd),
        (begin + 2 * size, size, mmap.PROT_READ, fixed | mmap.MAP_SHARED, fd),
    ):
        if libc.mmap(start, length, protection, flags, file, 0) != start:
            sys.exit("no memory where it is needed")
    print(begin, begin + 2 * size, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
