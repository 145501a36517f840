"""Callers that check every result, while what serves them is killed and cut off: a short run.

Longer ones are ``python -m tests.faults``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cuse_crypto.errors import Failure
from tests.conftest import PROJECT, Service
from tests.dying import resends
from tests.faults import callers, endurance, programs, several, trials
from tests.faults.trials import TRIALS, Trial

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return programs.compiled("steady", tmp_path_factory.mktemp("programs"), "-lcrypto")
    except Failure as failure:
        pytest.skip(str(failure))


@pytest.fixture
def trial(steady: Path, tmp_path: Path, node_kind: str) -> Trial:
    return Trial(3, 4, 1, [str(steady)], tmp_path, node_kind=node_kind, at_once=True)


def test_no_result_is_wrong_when_back_ends_are_killed(trial: Trial) -> None:
    figures = TRIALS["backend"](trial)
    assert (figures["wrong"], figures["hangs"], figures["ended_early"]) == (0, 0, [])
    assert set(figures["errors"]) <= {"hash EIO"}
    assert figures["operations"] > 4 * trial.blows


def test_no_result_is_wrong_when_front_ends_are_killed(trial: Trial) -> None:
    if not resends():
        pytest.skip(f"Linux {os.uname().release} does not send requests once more; 6.9 does")
    figures = TRIALS["frontend"](trial)
    assert (figures["wrong"], figures["hangs"], figures["ended_early"]) == (0, 0, [])
    assert set(figures["errors"]) <= {"hash EIO"}
    assert figures["operations"] > 4 * trial.blows


def test_no_result_is_wrong_when_connections_are_cut(trial: Trial) -> None:
    figures = TRIALS["cut"](trial)
    assert (figures["wrong"], figures["hangs"], figures["ended_early"]) == (0, 0, [])
    assert set(figures["errors"]) <= {"hash EIO"}
    assert figures["operations"] > 4 * trial.blows


@pytest.mark.parametrize("what", ["move", "balance"])
def test_no_result_is_wrong_with_two_back_ends(trial: Trial, what: str) -> None:
    if what == "balance" and (reason := several.why_no_balancer()):
        pytest.skip(reason)
    trial.blows = 4
    figures = TRIALS[what](trial)
    assert (figures["wrong"], figures["hangs"], figures["ended_early"]) == (0, 0, [])
    assert set(figures["errors"]) <= {"hash EIO"}
    assert figures["operations"] > 4 * trial.blows


@pytest.mark.parametrize("what", [several.side_by_side, several.balanced])
def test_no_hash_is_lost_while_nobody_dies(trial: Trial, what: Callable[..., Any]) -> None:
    """Whichever of two back ends a connection would reach."""
    if what is several.balanced and (reason := several.why_no_balancer()):
        pytest.skip(reason)
    trial.callers = 8
    with what(trial.folder, trial.engine, trial.node_kind) as (_, device):
        with trial.working(device.path) as figures:
            for _ in range(5):
                trial.wait()
        assert (figures["wrong"], figures["errors"]) == (0, {})


@pytest.mark.parametrize(
    ("language", "kind"), [*(("c", kind) for kind in callers.KINDS), ("python", "hash")]
)
def test_a_caller_sees_what_is_wrong(
    openssl_device: Service, null_device: Service, steady: Path, language: str, kind: str
) -> None:
    program = [str(steady)] if language == "c" else trials.steady_in_python()
    for service, wrong in ((openssl_device, False), (null_device, True)):
        words = [*program, str(service.path), "60", kind, "1"]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, timeout=60, check=False)
        figures = json.loads(done.stdout.splitlines()[-1])
        assert (done.returncode, figures["wrong"] > 0) == (wrong, wrong)
        assert figures["operations"] >= 60
        assert not figures["errors"]


def test_what_processes_hold(
    openssl_device: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Threads and descriptors settle in a longer run only.
    monkeypatch.setattr(endurance, "REST", 0.0)
    built = (programs.compiled(name, tmp_path) for name in ("hammer", "churn"))
    pid, node = openssl_device.process.pid, str(openssl_device.path)
    report = endurance.endure(0.001, pid, node, *built)
    assert set(report["before"]) >= {"up", "backend", "device"}
    now = endurance.held(pid)["up"]
    assert now["fds"] == len(os.listdir(f"/proc/{pid}/fd"))
    assert not [what for what in report["grown"] if what.endswith("MiB")]


def test_the_command(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.faults", "--what", "nonsense"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--what" in done.stderr
