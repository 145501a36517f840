"""Reaching a server: one attempt, what its failure means, and how long to keep trying."""

import errno
import os
import random
import socket

import trio

TIMEOUT = 10.0
"""Seconds for one attempt."""
BACKOFF = 0.25, 15.0
"""Seconds between attempts: about the first, and at most."""
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class Unreachable(Exception):
    """Nobody is there; says why in words."""


async def dial(host: str, port: int) -> trio.SocketStream:
    """A connection by whatever address of ``host`` answers first. Unreachable."""
    try:
        with trio.fail_after(TIMEOUT):
            stream = await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        raise Unreachable("it does not answer") from None
    except UnicodeError:
        raise Unreachable("that is no name of a host") from None
    except OSError as error:
        raise Unreachable(_in_words(error)) from None
    watch(stream)
    return stream


def watch(stream: trio.SocketStream) -> None:
    """Have the kernel notice a peer that is gone without a word."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _in_words(error: BaseException) -> str:
    # trio gives the reason of each address as the cause.
    if isinstance(error, BaseExceptionGroup):
        return _in_words(error.exceptions[0])
    if isinstance(error, socket.gaierror):
        return "no such host is known"
    if isinstance(error, OSError) and error.errno is not None:
        return "connection refused" if error.errno == errno.ECONNREFUSED else _name(error)
    return _in_words(error.__cause__) if error.__cause__ else str(error)


def _name(error: OSError) -> str:
    return os.strerror(error.errno or 0)


class Patience:
    """Attempts at growing intervals, for ``seconds`` from when the first of them failed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.succeeded()

    def succeeded(self) -> None:
        """Connected: begin anew the next time."""
        self._delay = BACKOFF[0]
        self._until: float | None = None

    async def wait(self) -> bool:
        """Wait for the next attempt; False when there is none."""
        now = trio.current_time()
        self._until = self._until or now + self._seconds
        if now >= self._until:
            return False
        # Not all members of a room at the same moment.
        await trio.sleep(min(self._delay * random.uniform(0.5, 1), self._until - now))
        self._delay = min(self._delay * 2, BACKOFF[1])
        return True
