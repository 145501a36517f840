"""A connection before a thread is spent on it; and what comes from a file sender."""

import select
import socket
from collections.abc import AsyncIterator

import trio

from cuse_crypto.wire.connection import ConnectionLost
from cuse_crypto.wire.tls import Refused, TlsConnection

LINGER, _PARTS = 1.0, 8
"""Seconds, and how often, that a refused peer is heard out."""


async def has_begun(sock: socket.socket) -> bool:
    """Wait until the peer says something; False if it has gone instead. OSError for a lost one."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            continue


async def shake_hands(connection: TlsConnection) -> None:
    """The handshake of TLS; Refused or ConnectionLost if it comes to nothing."""
    connection.socket.setblocking(False)
    try:
        while events := connection.greet_by_steps():
            await _wait(connection.socket, events)
    except Refused:
        await _linger(connection)
        raise


async def _wait(sock: socket.socket, events: int) -> None:
    reading = events == select.POLLIN
    await (trio.lowlevel.wait_readable if reading else trio.lowlevel.wait_writable)(sock)


async def _linger(connection: TlsConnection) -> None:
    """Until the peer has heard why: a reset would take the word away from it."""
    connection.stop_sending()
    with trio.move_on_after(LINGER):
        for _ in range(_PARTS):
            await trio.lowlevel.wait_readable(connection.socket)
            if not connection.received_in_the_clear():
                break


async def contents(sock: socket.socket) -> AsyncIterator[bytes]:
    """What a file sender sends, as it comes; ConnectionLost when it has ended."""
    # Only with TLS is that loaded.
    from cuse_crypto.wire.revocation import LENGTH

    sock.setblocking(False)
    while True:
        (length,) = LENGTH.unpack(await _exactly(sock, LENGTH.size))
        yield await _exactly(sock, length)


async def _exactly(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        await trio.lowlevel.wait_readable(sock)
        part = sock.recv(size - len(received))
        if not part:
            raise ConnectionLost("the process that reads the file has ended")
        received += part
    return bytes(received)
