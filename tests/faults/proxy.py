"""A Unix socket between front end and back end that delays what passes, and cuts it off.

Descriptors do not pass: so the two do not share memory, and all that they say comes this way.
"""

import contextlib
import random
import select
import socket
import threading
import time
from pathlib import Path

PART = 65536
WATCH = 0.05
"""Seconds after which a connection on which nothing is said looks whether it is to be cut."""


class Proxy:
    """Listens at ``path``, and connects to ``target`` for everybody who comes."""

    def __init__(self, path: Path, target: Path, seed: int) -> None:
        self.path, self.target = path, target
        self.delay = 0.0
        """Seconds at most that a part is held back, one in 20 of them."""
        self._random = random.Random(seed)
        self._cuts = 0
        self._ended = False
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._accepting = self._start(self._accept)

    def cut(self) -> None:
        """Every connection ends in the middle of the next part that passes, or now."""
        self._cuts += 1

    def _start(self, function: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._ended:
            if select.select([self._listener], [], [], WATCH)[0]:
                self._start(self._pump, self._listener.accept()[0])

    def _pump(self, one: socket.socket) -> None:
        other = socket.socket(socket.AF_UNIX)
        with one, other, contextlib.suppress(OSError):
            other.connect(str(self.target))
            cuts = self._cuts
            while not self._ended:
                readable, _, _ = select.select([one, other], [], [], WATCH)
                for source in readable:
                    part = source.recv(PART)
                    if not part:
                        return
                    self._pass_on(part, other if source is one else one, cuts)
                if self._cuts != cuts:
                    return

    def _pass_on(self, part: bytes, target: socket.socket, cuts: int) -> None:
        if self._cuts != cuts:
            part = part[: self._random.randrange(len(part))]
        if self.delay and not self._random.randrange(20):
            time.sleep(self._random.uniform(0, self.delay))
        target.sendall(part)

    def close(self) -> None:
        """End it, and all that goes through it."""
        self._ended = True
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self.path.unlink(missing_ok=True)
