"""Where a status tree is mounted, and how it comes there and goes."""

import contextlib
import os
import time
from pathlib import Path

from cuse_crypto.errors import Failure
from cuse_crypto.extras import remedy
from cuse_crypto.fuse.mounted_node import is_stale
from cuse_crypto.linux import folders
from cuse_crypto.linux.mounts import MNT_DETACH, mount_type, unmount

PLACE = Path("/run/cuse-crypto")
SUBTYPE = "cuse-crypto-status"
TYPE = f"fuse.{SUBTYPE}"
PATIENCE = 5.0
"""Seconds that a predecessor has to take its tree down."""
PAUSE = 0.02


def place_of(name: str) -> Path:
    """Of the tree of the device ``name``."""
    return PLACE / name


def is_served(folder: Path) -> bool:
    """Whether there is a status tree: any user can make a folder that looks like one, elsewhere."""
    try:
        folders.check(folder)
        return (folder / "info").is_file()
    except OSError:
        # Of a process that is gone (ENOTCONN), or not open to this user.
        return False


def prepare(folder: Path) -> None:
    """An empty folder with nothing mounted there; Failure in one line if it cannot be had."""
    sweep(folder, PATIENCE)
    if mount_type(folder) is not None:
        raise Failure(f"{folder} is taken (something is mounted there)")
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        folders.check(folder)
    except OSError as error:
        raise Failure(f"{folder}: {error.strerror}") from None


def sweep(folder: Path, patience: float = 0.0) -> None:
    """Remove what a status process has left there, when it has gone; nothing else is touched.

    ``patience``: seconds in which one that is about to go may do so.
    """
    end = time.monotonic() + patience
    while mount_type(folder) == TYPE:
        if is_stale(folder):
            unmount(folder, MNT_DETACH)
        elif time.monotonic() >= end:
            return
        else:
            time.sleep(PAUSE)
    remove(folder)


def remove(folder: Path) -> None:
    """The folder, if it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def why_no_status() -> str | None:
    """Why this machine can have no status tree, with the remedy; None if it seems that it can."""
    from importlib.util import find_spec

    if find_spec("pyfuse3") is None:
        return f"pyfuse3 is not installed; {remedy('status')}"
    if os.geteuid() != 0:
        return f"uid {os.geteuid()} may not mount; run as root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is closed or not there; modprobe fuse"
    return None
