"""The back end's server: listens, and gives every connection a thread that answers its requests.

trio listens and ends; the threads block in their sockets. A message that breaks the protocol ends
its connection and nothing else.
"""

import logging
import os
import socket
import struct
from collections import Counter

import trio

from cuse_crypto_backend.channel import Channel
from cuse_crypto_backend.engines import Engine
from cuse_crypto_backend.guests import Guests

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1024
MAX_OF_ONE_PEER = 300
"""Connections of one process: a front end has as many as it has workers, 256 at most."""


class Server:
    """Serves front ends of the users in ``uids`` with ``engine``."""

    def __init__(self, engine: Engine, uids: frozenset[int]) -> None:
        self.engine = engine
        self.guests = Guests(engine)
        self._uids = uids
        self._peers: Counter[int] = Counter()

    async def run(self, listener: socket.socket) -> None:
        """Accept until cancelled, which ends all connections."""
        listening = trio.socket.from_stdlib_socket(listener)
        limiter = trio.CapacityLimiter(MAX_CONNECTIONS)
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    accepted, _ = await listening.accept()
                except OSError as error:
                    # Out of descriptors, or the peer gave up: neither lasts.
                    log.error("cannot accept a front end: %s", error.strerror)
                    await trio.sleep(0.1)
                    continue
                sock = socket.socket(fileno=accepted.detach())
                pid = self._peer(sock)
                if pid is None:
                    sock.close()
                    continue
                self._peers[pid] += 1
                nursery.start_soon(self._serve, sock, pid, limiter)

    def _peer(self, sock: socket.socket) -> int | None:
        """The pid at the other end, None for one that may not connect (any more).

        Who that is, is the kernel's word and not the peer's.
        """
        size = struct.calcsize("3i")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid: int
        pid, uid, _ = struct.unpack("3i", credentials)
        if uid not in self._uids:
            log.warning(
                "refused a front end of uid %d (pid %d); allow it with --allow-uid",
                *(uid, pid),
                extra={"uid": uid, "pid": pid},
            )
            return None
        if self._peers[pid] >= MAX_OF_ONE_PEER:
            log.warning("refused one more connection of pid %d, which has %d", pid, MAX_OF_ONE_PEER)
            return None
        return pid

    async def _serve(self, sock: socket.socket, pid: int, limiter: trio.CapacityLimiter) -> None:
        channel = Channel(self.engine, self.guests, sock)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_shut_when_cancelled, channel)
                await trio.to_thread.run_sync(channel.run, limiter=limiter, thread_name="queue")
                nursery.cancel_scope.cancel()
        finally:
            sock.close()
            self._peers[pid] -= 1
            if not self._peers[pid]:
                del self._peers[pid]


async def _shut_when_cancelled(channel: Channel) -> None:
    """A thread that blocks in its connection is woken by the end of it."""
    try:
        await trio.sleep_forever()
    finally:
        channel.shut()


async def serve(
    engine: Engine, listener: socket.socket, uids: frozenset[int] | None = None
) -> None:
    """Serve until cancelled; ``uids`` may connect: by default root and this process's own."""
    allowed = uids if uids is not None else frozenset({0, os.geteuid()})
    await Server(engine, allowed).run(listener)
