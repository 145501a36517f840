"""The right to a name: one process has it, also before it can say that it serves."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cuse_crypto.errors import Failure
from cuse_crypto.fuse import claim
from cuse_crypto.linux.processes import Identity

Begin = Callable[[Path], int]


def leave(right: int) -> None:
    """The record of a process that is dead, and had no supervisor."""
    dead = [2**22 + 1, 1, Identity.own().namespace]
    os.pwrite(right, json.dumps([dead, None, 3, 0, 0]).ljust(256).encode(), 0)


def start(path: Path) -> int:
    """All of a predecessor was killed, and its file is there."""
    right = claim.take(path)
    leave(right)
    os.close(right)
    return claim.take(path)


def take_over(path: Path) -> int:
    """The predecessor's right has been kept for this process."""
    right = claim.take(path)
    leave(right)
    return claim.adopt(path, right)


@pytest.mark.parametrize("begin", [start, take_over])
def test_one_that_is_starting_is_not_taken_for_its_predecessor(
    tmp_path: Path, begin: Begin
) -> None:
    path = tmp_path / "cryptotest"
    right = begin(path)
    with pytest.raises(Failure, match="it is being served"):
        claim.take(path)
    # It would end of the signal for an upgrade.
    assert not claim.servers(tmp_path)
    claim.record(right, 4)
    assert claim.servers(tmp_path)["cryptotest"].process == Identity.own()
    claim.release(path, right)
    claim.release(path, claim.take(path))
    assert not list(tmp_path.iterdir())


def test_a_dead_one_whose_descriptor_somebody_keeps(tmp_path: Path) -> None:
    path = tmp_path / "cryptotest"
    kept = claim.take(path)
    leave(kept)
    ended: list[bool] = []
    right = claim.take(path, lambda: ended.append(True))
    assert ended == [True]
    claim.release(path, right)
    os.close(kept)
