"""A short run of every fuzzing target; a long one is ``python -m tests.fuzz``."""

import json
import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from tests.fuzz import engines
from tests.fuzz.tally import Tally
from tests.fuzz.targets import TARGETS

INPUTS = 320


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_do_harm(target: str) -> None:
    with TARGETS[target]() as run:
        tally = Tally(run, INPUTS)
        for data in engines.kept(target):
            tally.feed(data)
        engines.by_hypothesis(tally, 1, lambda count: None)
        report = tally.report()
    assert not report["findings"]
    assert report["inputs"] == INPUTS
    assert len(report["outcomes"]) > 3, "most of the inputs end the same way"


def test_a_finding_is_told() -> None:
    def run(data: bytes) -> str:
        if data[:1] == b"x":
            raise ValueError("x")
        return "good"

    tally = Tally(run, 2)
    tally.feed(b"xyz")
    tally.feed(b"x")
    report = tally.report()
    ((kind, finding),) = report["findings"].items()
    assert kind.startswith("ValueError in test_fuzz.py:")
    assert (finding["times"], finding["input"]) == (2, "78")


def test_the_command() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "fuse", "--json"]
    words += ["--engine", "hypothesis", "--inputs", "200"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, timeout=60, check=True)
    (report,) = json.loads(done.stdout)
    assert (report["target"], report["inputs"], report["findings"]) == ("fuse", 200, {})
