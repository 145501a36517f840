"""Where a process's log goes, and how much of the same it says."""

import contextlib
import logging
import sys
import time

from cuse_crypto import journal

MOST, WINDOW = 10, 10.0
"""So many records of one place in the code go through in so many seconds."""


class Sparing(logging.Filter):
    """Drops what is said too often: callers can make a process say some things at will."""

    def __init__(self, most: int = MOST, window: float = WINDOW) -> None:
        super().__init__()
        self._most, self._window = most, window
        self._places: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it goes through; the first one after some that did not says how many."""
        place = record.name, record.lineno
        now = time.monotonic()
        since, count = self._places.get(place, (now, 0))
        if now - since >= self._window:
            if count > self._most:
                record.msg = f"{record.msg} (and {count - self._most} more like it, not shown)"
            since, count = now, 0
        self._places[place] = since, count + 1
        return count < self._most


def set_up(command: str, verbose: bool, fields: dict[str, object]) -> None:
    """To the journal with fields, where standard error leads there; else to standard error."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"cuse-crypto {command}: %(message)s"))
    if journal.wanted():
        with contextlib.suppress(OSError):
            handler = journal.JournalHandler(fields)
            handler.setFormatter(logging.Formatter("%(message)s"))
    if not verbose:
        handler.addFilter(Sparing())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
