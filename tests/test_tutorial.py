"""The pages that students and teachers follow, command by command."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuse_crypto.fuse.cuse_node import why_no_cuse
from tests.conftest import PROJECT
from tests.documents import Block, Shell, blocks

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
    pytest.mark.skipif(why_no_cuse() is None, reason="the /dev of its own has no cuse nodes"),
]
PREPARED = ("./demo\n", ". .venv/bin/activate\n")
"""What installs the project, as has been done for the tests in another way."""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Where the tutorial takes place: a clone, and what it installs."""
    for name in ("chat", "tests"):
        (tmp_path / name).symlink_to(PROJECT / name)
    program = tmp_path / "bin" / "cuse-crypto"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cuse_crypto "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = Shell(tmp_path, {"PATH": path})
    yield shell
    shell.close()


@pytest.mark.parametrize(("page", "at_least"), [("tutorial", 14), ("teaching", 4)])
def test_page(shell: Shell, page: str, at_least: int) -> None:
    steps = list(blocks((PROJECT / "docs" / f"{page}.md").read_text()))
    assert [step.kind for step in steps].count("sh") >= at_least
    for step, following in zip(steps, [*steps[1:], Block("", "", "")], strict=True):
        commands = step.text
        for line in PREPARED:
            commands = commands.replace(line, "")
        if step.title:
            (shell.folder / step.title).write_text(step.text)
        elif step.kind == "sh" and commands:
            shell.run(commands, following.text if following.kind == "text" else None)
