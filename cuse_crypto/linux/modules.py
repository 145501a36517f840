"""Modules of the running kernel."""

import contextlib
import subprocess
from pathlib import Path

MODULES = Path("/sys/module")


def is_loaded(name: str) -> bool:
    """Whether it is there, loaded or built in with parameters."""
    return (MODULES / name).is_dir()


def version(name: str) -> str:
    """What the module says of itself, or what modinfo(8) says of its file; "" if neither does."""
    with contextlib.suppress(OSError):
        return (MODULES / name / "version").read_text().strip()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        words = ["modinfo", "-F", "version", name]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()
    return ""
