"""The back end's server: listens, and gives every connection a thread that answers its requests.

trio listens, shakes hands and ends; a thread is for who has something to say, and blocks in its
socket. A message that breaks the protocol ends its connection and nothing else.
"""

import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

import trio

from cuse_crypto.wire.messages import PeerError
from cuse_crypto.wire.tls import Refused, TlsConnection
from cuse_crypto_backend import greeting
from cuse_crypto_backend.admission import Admission, Peer
from cuse_crypto_backend.channel import HELLO_DEADLINE, Channel
from cuse_crypto_backend.engines import Engine
from cuse_crypto_backend.guests import Guests
from cuse_crypto_backend.shares import Shares
from cuse_crypto_backend.strangers import Strangers

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 2048
"""Of all; one owner alone may have half of them, see shares."""
MAX_OF_ONE_PEER = 300
"""Connections of one process: a front end has as many as it has workers, 256 at most. The same for
a virtual machine and for a certificate, and for an address of the network where there is none."""
MAX_STRANGERS = 512
MAX_OF_ONE_ADDRESS = 256
"""Connections over TCP that have not yet said who they are: the workers of a front end may all come
at once."""
STOP = 2.0
"""Seconds that a thread may take to end. A peer can hold one that writes to its pipe."""
EXPIRY = 60.0
"""Seconds from one look for certificates that have expired to the next."""


class Arrival:
    """A connection from when it was accepted: whose it is, and how it is ended."""

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock = sock
        self.peer = peer
        self.host = peer.name
        self.scope = trio.CancelScope()
        self.is_counted = self.has_greeted = False

    def end(self) -> None:
        """From trio's thread."""
        self.scope.cancel()


class Server:
    """Serves front ends that ``admission`` lets in with ``engine``."""

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self.engine = engine
        self.guests = Guests(engine)
        self.admission = admission
        self._peers: Counter[tuple[str, object]] = Counter()
        self._connections = Shares(MAX_CONNECTIONS)
        self._strangers = Strangers()
        self._certified: set[Arrival] = set()

    async def run(self, listener: socket.socket, lists: socket.socket | None = None) -> None:
        """Accept until cancelled, which ends all connections.

        ``lists``: where new lists of revoked certificates come from, see hardening.file_sender.
        """
        listening = trio.socket.from_stdlib_socket(listener)
        limiter = trio.CapacityLimiter(MAX_CONNECTIONS + MAX_STRANGERS)
        async with trio.open_nursery() as nursery:
            if self.admission.tls:
                nursery.start_soon(self._watch_certificates, lists)
            while True:
                try:
                    accepted, _ = await listening.accept()
                except OSError as error:
                    await self._make_do(error)
                    continue
                sock = socket.socket(fileno=accepted.detach())
                try:
                    # Not kept in a variable here, where they would outlive their connection.
                    nursery.start_soon(self._serve, self._let_in(sock), limiter)
                except Refused as refusal:
                    self.admission.tell(str(refusal))
                    sock.close()
                except OSError as error:
                    log.debug("lost a front end: %s", error.strerror)
                    sock.close()

    async def _make_do(self, error: OSError) -> None:
        """Out of descriptors, or the peer gave up: neither lasts."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            self._strangers.drop_one()
        log.error("cannot accept a front end: %s", error.strerror)
        await trio.sleep(0.1)

    def _let_in(self, sock: socket.socket) -> Arrival:
        """Who is at the other end. That is the kernel's word and not the peer's; Refused for one
        that may not connect (any more).
        """
        peer = self.admission.peer(sock)
        arrival = Arrival(sock, peer)
        if peer.is_known:
            self._count(arrival)
        else:
            self._strangers.add(peer.name, arrival.end, MAX_STRANGERS, MAX_OF_ONE_ADDRESS)
        return arrival

    def _count(self, arrival: Arrival) -> None:
        peer = arrival.peer
        if self._peers[peer.key] >= MAX_OF_ONE_PEER:
            raise Refused(
                f"refused one more connection of {peer.name}, which has {MAX_OF_ONE_PEER}"
            )
        if not self._connections.take(peer.owner):
            raise Refused(f"refused one more connection of {peer.name}: the rest is for others")
        self._peers[peer.key] += 1
        arrival.is_counted = True

    def _forget(self, arrival: Arrival) -> None:
        self._certified.discard(arrival)
        self._strangers.discard(arrival.end)
        if arrival.is_counted:
            key = arrival.peer.key
            self._connections.give(arrival.peer.owner)
            self._peers[key] -= 1
            if not self._peers[key]:
                del self._peers[key]

    async def _serve(self, arrival: Arrival, limiter: trio.CapacityLimiter) -> None:
        try:
            with arrival.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_end_if_silent, arrival)
                    await self._greet_and_talk(arrival, limiter)
                    nursery.cancel_scope.cancel()
        finally:
            arrival.sock.close()
            self._forget(arrival)

    async def _greet_and_talk(self, arrival: Arrival, limiter: trio.CapacityLimiter) -> None:
        try:
            channel = await self._greeted(arrival)
        except Refused as refusal:
            self.admission.tell(f"refused {arrival.peer.name}: {refusal}")
        except OSError as error:
            log.debug("lost a front end: %s", error)
        except Exception:
            log.exception("a bug, which ends a connection")
        else:
            if channel:
                await _in_thread(channel, partial(self._talk, channel, arrival.peer), limiter)

    async def _greeted(self, arrival: Arrival) -> Channel | None:
        """What talks to a peer that has something to say; None for one that has gone."""
        if not await greeting.has_begun(arrival.sock):
            return None
        connection = self.admission.connection(arrival.sock, HELLO_DEADLINE)
        arrival.sock = connection.socket
        if isinstance(connection, TlsConnection):
            await greeting.shake_hands(connection)
            arrival.peer = self.admission.certified(connection, arrival.host)
            self._certified.add(arrival)
            connection.set_deadline(HELLO_DEADLINE)
        known = partial(self._has_greeted, arrival)
        return Channel(self.engine, self.guests, connection, arrival.peer, known)

    def _has_greeted(self, arrival: Arrival) -> None:
        """In the thread of ``arrival``."""
        if not arrival.is_counted:
            trio.from_thread.run_sync(self._count, arrival)
            trio.from_thread.run_sync(self._strangers.discard, arrival.end)
        arrival.has_greeted = True

    def _talk(self, channel: Channel, peer: Peer) -> None:
        """In a thread: until the end of the connection."""
        try:
            channel.run()
        except Refused as refusal:
            self.admission.tell(f"{refusal}")
        except PeerError as error:
            log.warning("dropped a front end (%s): %s", peer.name, error)

    async def _watch_certificates(self, lists: socket.socket | None) -> None:
        """End the connections of certificates that are not good any more."""
        async with trio.open_nursery() as nursery:
            if lists:
                nursery.start_soon(self._take_lists, lists)
            while True:
                await trio.sleep(EXPIRY)
                self._end_of_no_use()

    async def _take_lists(self, lists: socket.socket) -> None:
        try:
            async for content in greeting.contents(lists):
                assert self.admission.tls
                if await trio.to_thread.run_sync(self.admission.tls.revoked.take, content):
                    self._end_of_no_use()
        except OSError as error:
            log.error("no more lists of revoked certificates are taken up: %s", error)

    def _end_of_no_use(self) -> None:
        for arrival in list(self._certified):
            reason = self.admission.objection(arrival.peer)
            if reason:
                self.admission.tell(f"ended {arrival.peer.name}: {reason}")
                arrival.end()


async def _end_if_silent(arrival: Arrival) -> None:
    """A deadline over all that comes before HELLO, however slowly it comes."""
    await trio.sleep(HELLO_DEADLINE)
    if not arrival.has_greeted:
        log.debug("%s has not said who it is in time", arrival.peer.name)
        arrival.end()


async def _in_thread(
    channel: Channel, talk: Callable[[], None], limiter: trio.CapacityLimiter
) -> None:
    """Talk; a thread that blocks in its connection is woken when this is cancelled.

    It is given up after STOP: a peer can hold it, in a pipe that it has made to block.
    """
    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True) as scope:
            nursery.start_soon(_shut_when_cancelled, channel, scope)
            await trio.to_thread.run_sync(
                talk, limiter=limiter, thread_name="queue", abandon_on_cancel=True
            )
        nursery.cancel_scope.cancel()


async def _shut_when_cancelled(channel: Channel, scope: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    finally:
        channel.shut()
        scope.deadline = trio.current_time() + STOP


async def serve(
    engine: Engine,
    listener: socket.socket,
    admission: Admission | None = None,
    lists: socket.socket | None = None,
) -> None:
    """Serve until cancelled; by default root, and this process's own user, may connect."""
    await Server(engine, admission or Admission.of_this_user()).run(listener, lists)
