#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""chat_client.py HOST [PORT] [DEVICE]: chat_client.c in Python, without any library.

It shows how a Python program uses a cryptodev device: pack the struct, pass its bytes to ioctl().
256-byte messages, zero padded, AES-128-CBC, key and IV zero: for learning, not for secrets.
"""

import ctypes
import fcntl
import os
import select
import socket
import struct
import sys

MESSAGE_SIZE = 256
LINE_SIZE = MESSAGE_SIZE - 2  # leaves room for "\n" and a final zero

# crypto/cryptodev.h; "P" is a pointer, "0P" pads the end as the C compiler does
CRYPTO_AES_CBC = 11
COP_ENCRYPT, COP_DECRYPT = 0, 1
session_op = struct.Struct("IIIPIPI0P")  # cipher mac keylen *key mackeylen *mackey ses
crypt_op = struct.Struct("IHHIPPPP")  # ses op flags len *src *dst *mac *iv


def ioctl_number(direction: int, number: int, size: int) -> int:
    """_IOW is direction 1, _IOR 2, _IOWR 3."""
    return direction << 30 | size << 16 | ord("c") << 8 | number


CIOCGSESSION = ioctl_number(3, 102, session_op.size)
CIOCFSESSION = ioctl_number(1, 103, 4)
CIOCCRYPT = ioctl_number(3, 104, crypt_op.size)


def start_session(device: int) -> int:
    key = ctypes.create_string_buffer(16)
    fields = CRYPTO_AES_CBC, 0, len(key), ctypes.addressof(key), 0, 0, 0
    answer = fcntl.ioctl(device, CIOCGSESSION, session_op.pack(*fields))
    return int(session_op.unpack(answer)[-1])


def crypt(device: int, session: int, operation: int, message: bytes) -> bytes:
    iv = ctypes.create_string_buffer(16)
    buffer = ctypes.create_string_buffer(message, MESSAGE_SIZE)
    src = dst = ctypes.addressof(buffer)  # in place
    fields = session, operation, 0, MESSAGE_SIZE, src, dst, 0, ctypes.addressof(iv)
    fcntl.ioctl(device, CIOCCRYPT, crypt_op.pack(*fields))
    return buffer.raw


def receive(peer: socket.socket) -> bytes:
    """One message, however many reads it takes; b"" when the peer has ended."""
    message = b""
    while len(message) < MESSAGE_SIZE:
        part = peer.recv(MESSAGE_SIZE - len(message))
        if not part and message:
            raise ConnectionError("the peer left in the middle of a message")
        if not part:
            break
        message += part
    return message


def printable(message: bytes) -> str:
    text = message.rstrip(b"\0").removesuffix(b"\n").decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def take_line(typed: bytes, at_end: bool) -> tuple[bytes | None, bytes]:
    """The next line that can be sent, if there is one, and what remains after it."""
    line, newline, rest = typed.partition(b"\n")
    if len(line) > LINE_SIZE:
        return typed[:LINE_SIZE], typed[LINE_SIZE:]
    if newline or (at_end and line):
        return line, rest
    return None, typed


def talk(peer: socket.socket, device: int, session: int) -> None:
    typed, at_end, sending = b"", False, True
    while True:
        line, rest = take_line(typed, at_end)
        if line is None and at_end and sending:
            peer.shutdown(socket.SHUT_WR)  # all is said; the peer may still have something to say
            sending = False
        readers = [peer] if line is not None or at_end else [peer, sys.stdin]
        writers = [peer] if line is not None else []  # only when there is room: never block
        readable, writable, _ = select.select(readers, writers, [])
        if sys.stdin in readable:
            part = os.read(sys.stdin.fileno(), 4096)
            typed, at_end = typed + part, not part
        if peer in readable:
            message = receive(peer)
            if not message:
                return
            print("peer:", printable(crypt(device, session, COP_DECRYPT, message)), flush=True)
        if line is not None and writable:
            peer.sendall(crypt(device, session, COP_ENCRYPT, line + b"\n"))
            typed = rest


def main() -> int:
    arguments = sys.argv[1:]
    if not 1 <= len(arguments) <= 3:
        print(f"usage: {sys.argv[0]} HOST [PORT] [DEVICE]", file=sys.stderr)
        return 2
    host, port, path = arguments + ["35001", "/dev/cryptodev0"][len(arguments) - 1 :]
    try:
        device = os.open(path, os.O_RDWR)
        with socket.create_connection((host, int(port))) as peer:
            print(f"connected to {host} port {port}", flush=True)
            session = start_session(device)
            talk(peer, device, session)
            fcntl.ioctl(device, CIOCFSESSION, struct.pack("I", session))
    except (OSError, ValueError) as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        return 1
    print("peer left", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
