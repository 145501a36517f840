"""Children that are waited for, but not for ever."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cuse_crypto.hardening import file_sender
from cuse_crypto.hardening.file_sender import FileSender
from cuse_crypto.linux.processes import wait_for_end


def test_one_that_ends_and_one_that_does_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not wait_for_end(child.pid, 0.05)
    assert child.stdin
    child.stdin.close()
    assert wait_for_end(child.pid, 30)
    assert wait_for_end(child.pid, 0)
    child.wait()


def test_a_file_that_cannot_be_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network that does not answer: the back end ends all the same."""
    path = tmp_path / "list"
    os.mkfifo(path)
    monkeypatch.setattr(file_sender, "PATIENCE", 0.2)
    sender = FileSender(path, Path.exists, None, bytes)
    # Until it has begun to read: then the other end of the file can be opened.
    end = os.open(path, os.O_WRONLY)
    began = time.monotonic()
    sender.end()
    try:
        assert 0.2 <= time.monotonic() - began < 20
    finally:
        os.close(end)
        os.waitpid(sender._pid, 0)
