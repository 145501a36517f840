"""A stand-in for QEMU and a virtio-serial port: a terminal in raw mode, joined to a Unix socket.

As with QEMU the stream survives whoever opens the port, and comes back when the host's side does.
"""

import contextlib
import os
import select
import socket
import threading
import tty
from pathlib import Path

PART = 65536
RETRY = 0.02


class Port:
    """``path`` is what a guest opens; behind it is whoever listens at ``target``."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._ended = threading.Event()
        self._there = threading.Event()
        self._master, self._slave = -1, -1
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def path(self) -> str:
        """Of the port, once somebody is behind it."""
        if not self._there.wait(0.5):
            raise OSError("nobody is behind the port")
        return os.ttyname(self._slave)

    def _run(self) -> None:
        while not self._ended.is_set():
            with socket.socket(socket.AF_UNIX) as sock:
                try:
                    sock.connect(str(self.target))
                except OSError:
                    self._ended.wait(RETRY)
                    continue
                self._join(sock)

    def _join(self, sock: socket.socket) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._there.set()
        try:
            with contextlib.suppress(OSError):
                self._pump(sock)
        finally:
            self._there.clear()
            os.close(self._master)
            os.close(self._slave)

    def _pump(self, sock: socket.socket) -> None:
        while not self._ended.is_set():
            readable, _, _ = select.select([sock.fileno(), self._master], [], [], 0.05)
            if self._master in readable:
                sock.sendall(os.read(self._master, PART))
            if sock.fileno() in readable:
                part = sock.recv(PART)
                if not part:
                    return
                self._write(part)

    def _write(self, part: bytes) -> None:
        while part and not self._ended.is_set():
            _, writable, _ = select.select([], [self._master], [], 0.05)
            if writable:
                # More might block, while the other side waits for us.
                part = part[os.write(self._master, part[:1024]) :]

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()
