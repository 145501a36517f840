"""The course's wire: messages of 256 bytes, zero padded, encrypted or plain. No I/O.

For teaching: every message has the same key and IV, so that equal messages look equal, and nothing
notices a changed one. The newline is a part of the message.
"""

from collections.abc import Iterator

from cuse_crypto_chat.text import pieces

MESSAGE_SIZE = 256
LINE_SIZE = MESSAGE_SIZE - 2
"""Bytes of a line in one message: a newline and one zero follow."""
KEY_SIZE = 16
IV_SIZE = 16


class CutMessage(Exception):
    """The peer ended in the middle of a message."""


def messages(line: str) -> Iterator[bytes]:
    """The messages of 256 bytes that carry a line, split between characters where it is long."""
    for piece in pieces(line.encode(errors="replace"), LINE_SIZE):
        yield (piece + b"\n").ljust(MESSAGE_SIZE, b"\0")


def text(message: bytes) -> str:
    """What a message says, without padding and newline; bytes that are no UTF-8 are replaced."""
    return message.rstrip(b"\0").removesuffix(b"\n").decode(errors="replace")


class Assembler:
    """Bytes in, however they were cut on the way; whole messages out."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. At most 255 bytes are kept for later."""
        data = self._partial + data
        whole = len(data) - len(data) % MESSAGE_SIZE
        self._partial = data[whole:]
        return [data[at : at + MESSAGE_SIZE] for at in range(0, whole, MESSAGE_SIZE)]

    def end(self) -> None:
        """The peer has ended. CutMessage if a message has begun."""
        if self._partial:
            raise CutMessage("connection lost in the middle of a message")
