"""Plays many sequences; of the first that differs, the shortest that still does."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.differential.player import UNKNOWN, Differs, Place, Player, Sequence, Ses, Step, show
from tests.differential.sequences import sequence


class Found(NamedTuple):
    """A difference. ``seed`` makes the whole sequence again; ``shortest`` is what is left of it."""

    number: int
    seed: str
    shortest: Sequence
    what: str

    def __str__(self) -> str:
        lines = [f"{index:3} {show(step)}" for index, step in enumerate(self.shortest.steps)]
        place = f"sequence {self.number}, seed {self.seed}"
        return "\n".join([f"{place}: {len(lines)} steps", *lines, self.what])


def search(player: Player, seed: str, count: int) -> Iterator[Found]:
    """Each difference in the sequences ``seed/0`` to ``seed/COUNT-1``."""
    for number in range(count):
        if found := try_one(player, number, f"{seed}/{number}"):
            yield found


def try_one(player: Player, number: int, seed: str) -> Found | None:
    """None if there is no difference."""
    whole = sequence(seed)
    if difference(player, whole) is None:
        return None
    shortest = shorten(player, whole)
    return Found(number, seed, shortest, difference(player, shortest) or "only at times")


def difference(player: Player, played: Sequence) -> str | None:
    """What differs."""
    try:
        player.play(played)
    except Differs as differs:
        return str(differs)
    return None


def shorten(player: Player, whole: Sequence) -> Sequence:
    """Without the steps, and without the oddities of steps, that are not needed to differ."""
    steps, again = whole.steps, True
    while again:
        again = False
        for shorter in candidates(steps):
            if difference(player, whole._replace(steps=shorter)) is not None:
                steps, again = shorter, True
                break
    return whole._replace(steps=steps)


def candidates(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """Ever so slightly simpler ones, the simplest first."""
    for index in reversed(range(len(steps))):
        yield without(steps, index)
    for index, step in enumerate(steps):
        for simpler in simpler_steps(step):
            yield (*steps[:index], simpler, *steps[index + 1 :])


def without(steps: tuple[Step, ...], index: int) -> tuple[Step, ...]:
    """All but one; if that makes a session, the numbers of those after it follow."""
    rest = (*steps[:index], *steps[index + 1 :])
    if steps[index].name != "CIOCGSESSION":
        return rest
    gone = sum(step.name == "CIOCGSESSION" for step in steps[:index])

    def moved(value: Any) -> Any:
        after = isinstance(value, Ses) and value.number > gone
        return Ses(value.number - 1) if after else UNKNOWN if value == Ses(gone) else value

    return tuple(step._replace(values=tuple(map(moved, step.values))) for step in rest)


def simpler_steps(step: Step) -> Iterator[Step]:
    """With one member less, or a smaller one."""
    if step.arg:
        yield step._replace(arg=None)
    if step.name not in ("CIOCCRYPT", "CIOCASYNCCRYPT", "CIOCAUTHCRYPT"):
        return
    for at, value in enumerate(step.values):
        if isinstance(value, int) and value > 1 and at > 1:
            for smaller in (0, value // 2, value & value - 1):
                yield step._replace(values=(*step.values[:at], smaller, *step.values[at + 1 :]))
        elif isinstance(value, Place) and value.of not in ("memory", "absolute"):
            yield step._replace(
                values=(*step.values[:at], Place("memory", 0), *step.values[at + 1 :])
            )
