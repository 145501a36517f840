"""systemd's programs, as this package calls them."""

import os
import shutil
import subprocess
from pathlib import Path

from cuse_crypto.errors import Failure

RUNNING = Path("/run/systemd/system")
PATIENCE = 660
"""Seconds for a program: longer than systemd gives a unit to start, and one to stop before."""
"""There when systemd is process 1: sd_booted(3)."""


def check_running() -> None:
    """Failure where there is no systemd."""
    if not RUNNING.is_dir():
        raise Failure(f"systemd does not run here (no {RUNNING}); use cuse-crypto up")


def check_root() -> None:
    """Failure for anybody else."""
    if os.geteuid():
        raise Failure("this changes /etc; run it as root")


def call(*command: str, fails: bool = True) -> str:
    """What a program says; Failure if it fails, or nothing unless it ``fails``."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        if fails:
            raise Failure(f"{' '.join(command)}: no end after {PATIENCE} s; see its log") from None
        return ""
    except OSError as error:
        if fails:
            raise Failure(f"{command[0]}: {error.strerror}; install it") from None
        return ""
    if done.returncode and fails:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Failure(f"{' '.join(command)}: {said[-1]}")
    return "" if done.returncode else done.stdout


def systemctl(*arguments: str, fails: bool = True) -> str:
    """``systemctl`` with these arguments, as ``call``."""
    return call("systemctl", *arguments, fails=fails)


def shown(*units: str) -> list[dict[str, str]]:
    """Properties of units; a pattern stands for those that are loaded."""
    names = "Id,LoadState,ActiveState,SubState,UnitFileState,StatusText,MainPID,NRestarts"
    blocks = systemctl("show", "--property", names, *units).strip().split("\n\n")
    return [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in blocks
        if block
    ]


def has(program: str) -> bool:
    """Whether there is such a program."""
    return shutil.which(program) is not None
