"""The man page and the completion, both of the parser: does the terminal take them?"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cuse_crypto.cli import man
from cuse_crypto.cli.described import describe
from cuse_crypto.cli.main import COMMANDS, cli
from tests.conftest import PROJECT
from tests.ptys import CTRL_D, Pty
from tests.test_cli import run

KILL_LINE = "\x15"
PAGE = PROJECT / "share" / "man" / "man1" / "cuse-crypto.1"


def test_the_page_is_that_of_the_parser() -> None:
    remedy = "cuse-crypto man > share/man/man1/cuse-crypto.1"
    assert PAGE.read_text() == run("man").stdout, remedy


def test_every_command_and_option_is_described() -> None:
    page = man.page(cli)
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command
        heading = f"cuse-crypto {name}".replace("-", r"\-")
        assert (f".SS {heading}\n" in page) != command.hidden
        for option in command.params:
            hidden = not isinstance(option, click.Option) or option.hidden
            assert hidden or option.opts[-1].replace("-", r"\-") in page, (name, option.name)
    assert "with-parent" not in page.replace("\\", "")


def test_paragraphs() -> None:
    described = {one.name: one for one in describe(cli, "cuse-crypto")}
    assert described["cuse-crypto"].options[-1].forms == "-h, --help"
    chat = described["cuse-crypto chat"]
    assert chat.paragraphs[0].text == "Talk over TCP, encrypted by a crypto device."
    assert chat.paragraphs[1].verbatim
    assert len(chat.paragraphs[1].text.splitlines()) == 3
    assert described["cuse-crypto chat secret"].usage.split()[-1] == "FILE"


@pytest.mark.parametrize(
    "checker", [["groff", "-man", "-Tutf8", "-ww"], ["man", "--warnings", "-l"]]
)
def test_troff_has_nothing_to_say(checker: list[str]) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    shown = subprocess.run([*checker, PAGE], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Make /dev/cryptodev0 and serve it, until Ctrl-C." in shown.stdout


def test_troff_takes_nothing_for_a_request() -> None:
    @click.command(help=".SH nothing\n\n'br is \\fBnot\\fR `code`")
    def odd() -> None: ...

    lines = man.page(odd).splitlines()
    assert r"\&.SH nothing" in lines
    assert r"\(aqbr is \efBnot\efR \fBcode\fR" in lines


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with ``cuse-crypto`` in it."""
    program = tmp_path / "cuse-crypto"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cuse_crypto "$@"\n')
    program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "true"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -D"),
}
"""How each is started without its user's configuration, and what it takes to complete at all."""


@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_completes(name: str, path: str, tmp_path: Path) -> None:
    program, prepare = SHELLS[name]
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    (tmp_path / "room.key").touch()
    with Pty(program=program) as shell:
        shell.type(f"PS1='> ' PATH={path}; {prepare}; cd {tmp_path}; clear\r")
        shell.until(lambda screen: screen.strip() == ">")
        shell.type(f'eval "$(cuse-crypto completion {name})"; echo evaluated\r')
        shell.shows("\nevaluated")
        shell.type("cuse-crypto doc\t")
        shell.shows("> cuse-crypto doctor")
        shell.type(KILL_LINE + "cuse-crypto up --engine op\t")
        shell.shows("> cuse-crypto up --engine openssl")
        shell.type(KILL_LINE + "cuse-crypto chat con\tlocalhost --secret-f\troo\t")
        shell.shows("> cuse-crypto chat connect localhost --secret-file room.key")
        shell.type(KILL_LINE + CTRL_D)
        assert shell.wait() == 0


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(path: str) -> None:
    script = 'cuse-crypto completion fish | source; complete -C "cuse-crypto doc"'
    told = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.startswith("doctor\tSay what works on this machine"), told
