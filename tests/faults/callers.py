"""Programs that work on a device and check what it says, and what they tell in the end."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from cuse_crypto.errors import Failure

KINDS = "cipher", "hmac", "aead", "hash"
PATIENCE = 30.0
"""Seconds that a caller may take to come back from its last call."""


class Caller:
    """One process, until ``ended``. Its end follows ours."""

    def __init__(self, program: Sequence[str], node: Path, kind: str, seed: int) -> None:
        follow = [sys.executable, "-m", "cuse_crypto.bench.follow", str(os.getpid())]
        words = [*follow, *program, str(node), "0", kind, str(seed)]
        self._process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
        self.kind = kind
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            _, complaints = self._process.communicate()
            raise Failure(f"the caller {kind} cannot start: {complaints.strip()[-200:]}")

    def ended(self) -> dict[str, Any]:
        """Ask it to end; its figures, with ``hung`` 1 where it does not come back."""
        self._process.send_signal(signal.SIGTERM)
        try:
            said, complaints = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return {"kind": self.kind, "hung": 1}
        if not said:
            raise Failure(f"the caller {self.kind} ended early: {complaints.strip()[-200:]}")
        figures: dict[str, Any] = json.loads(said)
        return figures | {"hung": 0, "complaints": complaints.splitlines()[:5]}

    def is_running(self) -> bool:
        """It has not ended by itself."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def summed(parts: Sequence[dict[str, Any]], deadline: float) -> dict[str, Any]:
    """Figures of several callers as one; a call of more than ``deadline`` seconds is a hang."""
    errors: Counter[str] = Counter()
    lost = 0
    for part in parts:
        for name, count in part.get("errors", {}).items():
            errors[f"{part['kind']} {name}"] += count
        lost += part.get("lost", 0)
    return {
        "operations": sum(part.get("operations", 0) for part in parts),
        "wrong": sum(part.get("wrong", 0) for part in parts),
        "hangs": sum(bool(part["hung"] or part["longest_ms"] > deadline * 1e3) for part in parts),
        "lost_streams": lost,
        "reopened": sum(part.get("reopened", 0) for part in parts),
        "longest_ms": max(part.get("longest_ms", 0) for part in parts),
        "errors": dict(errors),
        "complaints": [line for part in parts for line in part.get("complaints", [])],
    }
