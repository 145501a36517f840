"""What came of the inputs of a target, and what the process held before and after them."""

import gc
import os
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.target import ALLOWED, Run

WARM = 10_000
"""Inputs until caches are full: from then on nothing should grow."""
KEPT = 20
"""Findings of which the input is kept."""


class Tally:
    """Feeds inputs to a target; nothing gets out of it but Ctrl-C."""

    def __init__(self, run: Run, inputs: int) -> None:
        self.inputs = 0
        self.wanted = inputs
        self.outcomes: Counter[str] = Counter()
        self.findings: dict[str, dict[str, Any]] = {}
        self._run = run
        self._warm = min(WARM, inputs // 2)
        self._before = held()
        self._began = time.monotonic()

    def feed(self, data: bytes) -> None:
        """One input; none is needed once ``full``."""
        try:
            outcome = self._run(data)
        except ALLOWED as error:
            outcome = type(error).__name__
        except Exception as error:
            outcome = "FINDING"
            self._found(error, data)
        self.outcomes[outcome] += 1
        self.inputs += 1
        if self.inputs == self._warm:
            self._before = held()

    @property
    def full(self) -> bool:
        """There were as many inputs as were wanted."""
        return self.inputs >= self.wanted

    def _found(self, error: Exception, data: bytes) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}"
        finding = self.findings.setdefault(kind, {"times": 0, "says": str(error)})
        finding["times"] += 1
        if len(self.findings) <= KEPT and len(data.hex()) < len(finding.get("input", "0" * 99999)):
            finding["input"] = data.hex()
            finding["trace"] = traceback.format_exc()

    def report(self) -> dict[str, Any]:
        """Figures. Memory in bytes; ``before`` is after the first WARM inputs."""
        seconds = time.monotonic() - self._began
        gc.collect()
        return {
            "inputs": self.inputs,
            "seconds": round(seconds, 1),
            "outcomes": dict(self.outcomes.most_common()),
            "findings": self.findings,
            "before": self._before,
            "after": held(),
        }


def held() -> dict[str, int]:
    """Memory in bytes, descriptors and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss": pages * os.sysconf("SC_PAGESIZE"),
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }
