"""What is done to a device while callers work on it: one trial each."""

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.resources import family
from cuse_crypto.errors import Failure
from tests.faults import pair, several
from tests.faults.callers import KINDS, Caller, summed
from tests.faults.proxy import Proxy

BETWEEN = 0.02, 0.25
"""Seconds from one blow to the next, at random."""
LONGEST_AWAY = 1.0
"""Seconds that a back end is away at most."""
LATEST = 2 * pair.DEADLINE + LONGEST_AWAY
"""Seconds after which a call hangs: the deadline, once repeated, and a back end that is away."""
BACK = 10.0
"""Seconds in which a front end that was killed has to be there again."""


@dataclass
class Trial:
    """How much, and by whom."""

    blows: int
    callers: int
    seed: int
    program: list[str]
    folder: Path
    engine: str = "openssl"
    node_kind: str = "mounted"
    at_once: bool = False
    """A back end is replaced at once, never later."""
    progress: Callable[[int], None] = lambda done: None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def wait(self) -> None:
        """Until the next blow."""
        time.sleep(self.random.uniform(*BETWEEN))

    @contextlib.contextmanager
    def working(self, node: str) -> Iterator[dict[str, Any]]:
        """Callers at work on ``node``; what they found is in what is given, at the end."""
        figures: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            callers = [
                stack.enter_context(
                    Caller(self.program, Path(node), KINDS[index % len(KINDS)], self.seed + index)
                )
                for index in range(self.callers)
            ]
            self.wait()
            yield figures
            self.wait()
            early = [caller.kind for caller in callers if not caller.is_running()]
            figures["ended_early"] = early
            figures |= summed([caller.ended() for caller in callers], LATEST)

    def each(self) -> Iterator[int]:
        """The blows, with a word of progress after each."""
        for blow in range(self.blows):
            yield blow
            self.progress(blow + 1)


def backend(trial: Trial) -> dict[str, Any]:
    """SIGKILL to the back end; another one takes its place, at once or after a while."""
    path = trial.folder / "backend.sock"
    away = []
    with (
        contextlib.closing(pair.Backend(path, trial.engine, min(trial.blows, 4))) as running,
        pair.front_end([f"unix:{path}"], trial.node_kind) as device,
        trial.working(device.path) as figures,
    ):
        for _ in trial.each():
            running.prepare()
            trial.wait()
            wait = 0.0
            if not trial.at_once and trial.random.random() < 0.5:
                wait = trial.random.uniform(0, LONGEST_AWAY)
            began = time.monotonic()
            if trial.at_once:
                running.replace_under_way()
            else:
                running.kill()
                time.sleep(wait)
                running.replace()
            away.append(time.monotonic() - began)
    return figures | {"away_ms": round(sum(away) / len(away) * 1e3, 1)}


def frontend(trial: Trial) -> dict[str, Any]:
    """SIGKILL to the front end of an ``up``, which has to bring it back."""
    with pair.both(trial.engine, trial.node_kind) as device, trial.working(device.path) as figures:
        for _ in trial.each():
            trial.wait()
            before = _front_end_of(device.pid)
            os.kill(before, signal.SIGKILL)
            _until(
                lambda before=before: (
                    _front_end_of(device.pid) not in (0, before)  # type: ignore[misc]
                    and _opens(device.path)
                ),
                f"up has not brought its front end back within {BACK:.0f} s",
            )
    return figures


def _front_end_of(up: int) -> int:
    """Its pid, or 0; what ``ps`` shows as ``cuse-crypto device``."""
    with contextlib.suppress(OSError):
        for pid, role in family(up).items():
            if role == "device":
                return pid
    return 0


def _opens(node: str) -> bool:
    try:
        os.close(os.open(node, os.O_RDWR))
    except OSError:
        return False
    return True


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + BACK
    while not condition():
        if time.monotonic() > end:
            raise Failure(otherwise)
        time.sleep(0.01)


def stop(trial: Trial) -> dict[str, Any]:
    """SIGSTOP to the back end, and SIGCONT after a while."""
    path = trial.folder / "backend.sock"
    with (
        contextlib.closing(pair.Backend(path, trial.engine, spares=0)) as running,
        pair.front_end([f"unix:{path}"], trial.node_kind) as device,
        trial.working(device.path) as figures,
    ):
        for _ in trial.each():
            trial.wait()
            os.kill(running.pid, signal.SIGSTOP)
            time.sleep(trial.random.uniform(0, LONGEST_AWAY))
            os.kill(running.pid, signal.SIGCONT)
    return figures


@contextlib.contextmanager
def _through_proxy(trial: Trial) -> Iterator[tuple[Proxy, str]]:
    path, behind = trial.folder / "proxy.sock", trial.folder / "backend.sock"
    with (
        contextlib.closing(pair.Backend(behind, trial.engine, spares=0)),
        contextlib.closing(Proxy(path, behind, trial.seed)) as proxy,
        pair.front_end([f"unix:{path}"], trial.node_kind) as device,
    ):
        yield proxy, device.path


def cut(trial: Trial) -> dict[str, Any]:
    """The connections end, in the middle of a message as often as not."""
    with _through_proxy(trial) as (proxy, node), trial.working(node) as figures:
        for _ in trial.each():
            trial.wait()
            proxy.cut()
    return figures


def delay(trial: Trial) -> dict[str, Any]:
    """What is said comes late, by up to a tenth of a second."""
    with _through_proxy(trial) as (proxy, node), trial.working(node) as figures:
        for blow in trial.each():
            proxy.delay = 0.1 * (blow % 2)
            trial.wait()
    return figures


def move(trial: Trial) -> dict[str, Any]:
    """SIGKILL to one of two back ends that the device knows, and then to the other one."""
    with several.side_by_side(trial.folder, trial.engine, trial.node_kind) as (backends, device):
        return _in_turn(trial, backends, device.path)


def balance(trial: Trial) -> dict[str, Any]:
    """The same behind HAProxy, which hands every connection to the other back end."""
    with several.balanced(trial.folder, trial.engine, trial.node_kind) as (backends, device):
        return _in_turn(trial, backends, device.path)


def _in_turn(trial: Trial, backends: several.Backends, node: str) -> dict[str, Any]:
    """Whatever is in use is killed by every second blow at least."""
    with trial.working(node) as figures:
        for blow in trial.each():
            trial.wait()
            backends.kill(blow % 2)
            trial.wait()
            backends.restart(blow % 2)
    return figures


TRIALS = {
    "backend": backend,
    "frontend": frontend,
    "stop": stop,
    "cut": cut,
    "delay": delay,
    "move": move,
    "balance": balance,
}


def steady_in_python() -> list[str]:
    """The caller that needs no compiler."""
    return [sys.executable, "-m", "tests.faults.steady"]
