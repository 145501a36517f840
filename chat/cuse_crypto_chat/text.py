"""What comes from others is shown, and never drives the terminal or passes for something else."""

from collections.abc import Iterator

MAX_NAME = 32
_KEPT = "\t"


def printable(text: str) -> str:
    """``text`` with control, format and other unprintable characters written as escapes.

    That includes newlines, escape sequences, and what turns the direction of writing around.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _KEPT else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def clean_name(name: str) -> str:
    """A name of 1 to 32 printable characters, made from any text."""
    return " ".join(printable(name[:MAX_NAME]).split())[:MAX_NAME] or "nobody"


def boundary(data: bytes, size: int) -> int:
    """Where to cut UTF-8 so that at most ``size`` bytes come before, and no character is split."""
    if len(data) <= size:
        return len(data)
    end = size
    while end and data[end] & 0xC0 == 0x80:  # a byte that continues a character
        end -= 1
    return end or size


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Parts of 1 to ``size`` bytes; one empty part of nothing."""
    while len(data) > size:
        end = boundary(data, size)
        yield data[:end]
        data = data[end:]
    yield data
