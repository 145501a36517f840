"""The back end's server: listens, and gives every connection a thread that answers its requests.

trio listens and ends; the threads block in their sockets. A message that breaks the protocol ends
its connection and nothing else.
"""

import logging
import socket
from collections import Counter
from functools import partial

import trio

from cuse_crypto.wire.connection import Connection
from cuse_crypto.wire.messages import PeerError
from cuse_crypto.wire.tls import Refused
from cuse_crypto_backend.admission import Admission, Peer
from cuse_crypto_backend.channel import HELLO_DEADLINE, Channel
from cuse_crypto_backend.engines import Engine
from cuse_crypto_backend.guests import Guests

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1024
MAX_OF_ONE_PEER = 300
"""Connections of one process: a front end has as many as it has workers, 256 at most. The same for
a virtual machine, and for an address of the network."""
MAX_STRANGERS = 128
"""Connections that have not yet said who they are."""


class Server:
    """Serves front ends that ``admission`` lets in with ``engine``."""

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self.engine = engine
        self.guests = Guests(engine)
        self.admission = admission
        self._peers: Counter[tuple[str, object]] = Counter()
        self._strangers: set[Connection] = set()

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
                try:
                    # Not kept in a variable here, where they would outlive their connection.
                    nursery.start_soon(self._serve, *self._let_in(sock), limiter)
                except Refused as refusal:
                    self.admission.tell(str(refusal))
                    sock.close()
                except OSError as error:
                    log.debug("lost a front end: %s", error.strerror)
                    sock.close()

    def _let_in(self, sock: socket.socket) -> tuple[Channel, Peer]:
        peer = self._peer(sock)
        connection = self.admission.connection(sock, HELLO_DEADLINE)
        self._peers[peer.key] += 1
        if not peer.is_known:
            self._strangers.add(connection)
        known = partial(self._strangers.discard, connection)
        return Channel(self.engine, self.guests, connection, known), peer

    def _peer(self, sock: socket.socket) -> Peer:
        """Who is at the other end. That is the kernel's word and not the peer's; Refused for one
        that may not connect (any more).
        """
        peer = self.admission.peer(sock)
        if self._peers[peer.key] >= MAX_OF_ONE_PEER:
            raise Refused(
                f"refused one more connection of {peer.name}, which has {MAX_OF_ONE_PEER}"
            )
        if not peer.is_known and len(self._strangers) >= MAX_STRANGERS:
            raise Refused(f"refused {peer.name}: {MAX_STRANGERS} others have not said who they are")
        return peer

    async def _serve(self, channel: Channel, peer: Peer, limiter: trio.CapacityLimiter) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_shut_when_cancelled, channel)
                await trio.to_thread.run_sync(
                    self._talk, channel, peer, limiter=limiter, thread_name="queue"
                )
                nursery.cancel_scope.cancel()
        finally:
            channel.connection.close()
            self._strangers.discard(channel.connection)
            self._peers[peer.key] -= 1
            if not self._peers[peer.key]:
                del self._peers[peer.key]

    def _talk(self, channel: Channel, peer: Peer) -> None:
        """In a thread: until the end of the connection."""
        try:
            channel.run()
        except Refused as refusal:
            self.admission.tell(f"refused {peer.name}: {refusal}")
        except PeerError as error:
            log.warning("dropped a front end (%s): %s", peer.name, error)


async def _shut_when_cancelled(channel: Channel) -> None:
    """A thread that blocks in its connection is woken by the end of it."""
    try:
        await trio.sleep_forever()
    finally:
        channel.shut()


async def serve(
    engine: Engine, listener: socket.socket, admission: Admission | None = None
) -> None:
    """Serve until cancelled; by default root, and this process's own user, may connect."""
    await Server(engine, admission or Admission.of_this_user()).run(listener)
