"""What thinks up inputs, and the inputs that are kept."""

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.tally import Tally

CORPUS = Path(__file__).parent / "corpus"
LONGEST = 512
"""Bytes of an input."""
BATCH = 2000
"""Examples at a time: hypothesis remembers those that it has made."""
EVERY = 1000
"""Inputs of atheris after which to look at the clock."""
TOGETHER = 16
"""Inputs in one example, which takes 400 us to think up."""


def kept(target: str) -> Iterator[bytes]:
    """Inputs that once were a finding, or lead somewhere that takes long to find."""
    for line in (CORPUS / f"{target}.txt").read_text().splitlines():
        written = line.partition("#")[0].strip()
        if written:
            yield bytes.fromhex(written)


def by_hypothesis(tally: Tally, number: int, progress: Callable[[int], None]) -> None:
    """Feed what hypothesis thinks up from the seed ``number``."""
    batch = 0
    while not tally.full:
        _batch(tally, number + batch, min(BATCH, -(-tally.wanted // TOGETHER)), progress)
        batch += 1
        gc.collect()


def _batch(tally: Tally, number: int, examples: int, progress: Callable[[int], None]) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=LONGEST * TOGETHER // 2, max_size=LONGEST * TOGETHER // 2))
    def feed(data: bytes) -> None:
        for one in _parts(data):
            if not tally.full:
                tally.feed(one)
        progress(tally.inputs)

    feed()


def _parts(data: bytes) -> Iterator[bytes]:
    """TOGETHER inputs, short and long ones in turn."""
    at = 0
    for index in range(TOGETHER):
        size = (LONGEST // 8, LONGEST // 4, LONGEST // 2, LONGEST)[index % 4]
        yield data[at : at + size]
        at = (at + size) % (len(data) - LONGEST)


def by_atheris(
    tally: Tally,
    number: int,
    target: str,
    folder: Path,
    progress: Callable[[int], None],
    done: Callable[[], None],
) -> None:
    """Feed what atheris thinks up; does not return, and calls ``done`` at the end.

    It keeps in ``folder`` what has led to new paths.
    """
    import atheris

    def one(data: bytes) -> None:
        tally.feed(data)
        if not tally.inputs % EVERY:
            progress(tally.inputs)
        if tally.full:
            done()

    folder.mkdir()
    for index, data in enumerate(kept(target)):
        (folder / str(index)).write_bytes(data)
    options = [f"-seed={number + 1}", f"-max_len={LONGEST}"]
    atheris.Setup([sys.argv[0], *options, str(folder)], one)
    atheris.Fuzz()
