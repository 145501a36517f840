"""A device of this project, of any copy of it, in processes of its own."""

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_numbers = itertools.count()
PATIENCE = 60
"""Seconds for a device to end."""


@contextlib.contextmanager
def serving(*options: str, copy: Path | None = None) -> Iterator[Path]:
    """``cuse-crypto up``; its node. ``copy`` is a folder whose packages are taken before others."""
    path = Path(f"/dev/cryptodiffers-{os.getpid()}-{next(_numbers)}")
    words = [sys.executable, "-P", "-m", "cuse_crypto", "up", "--name", path.name, *options]
    given = {**os.environ, "PYTHONPATH": str(copy)} if copy else None
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=given, text=True) as process:
        assert process.stdout
        said = process.stdout.readline()
        if not said.startswith("ready: "):
            raise SystemExit(f"no device: {' '.join(words)}")
        try:
            yield path
        finally:
            process.terminate()
            process.wait(PATIENCE)
