"""``cuse-crypto man``: cuse-crypto(1), written from the parser."""

import re
from collections.abc import Iterator

import click

from cuse_crypto import __version__
from cuse_crypto.cli.described import Described, Option, Paragraph, describe
from cuse_crypto.cli.options import announce

AFTER = (
    (
        "EXIT STATUS",
        (
            ("0", "Done."),
            ("1", "Failed: one line on standard error says why, and names the remedy."),
            ("2", "Wrong usage."),
        ),
    ),
    (
        "FILES",
        (
            ("/dev/cryptodev0", "The node, while it is served."),
            ("/run/cuse-crypto", "Sockets between the processes, while they run."),
        ),
    ),
    (
        "ENVIRONMENT",
        (
            ("CUSE_CRYPTO_HOST_DEVICE", "What the engine cryptodev uses instead of /dev/crypto."),
            ("_CUSE_CRYPTO_COMPLETE", "Set by the scripts of `cuse-crypto completion`."),
        ),
    ),
)
"""What no parser knows: sections of terms, each with its meaning."""


@click.command("man")
def command() -> None:
    """Print the manual page: cuse-crypto man | man -l -"""
    from cuse_crypto.cli.main import cli

    announce(page(cli))


def page(cli: click.Command) -> str:
    """The page as man(7) macros."""
    return "\n".join(_lines(list(describe(cli, "cuse-crypto"))))


def _lines(commands: list[Described]) -> Iterator[str]:
    whole, *parts = commands
    yield f'.TH CUSE-CRYPTO 1 "" "cuse-crypto {__version__}" "User Commands"'
    yield from (".SH NAME", rf"cuse\-crypto \- {_text(whole.summary.rstrip('.'))}")
    yield from (".SH SYNOPSIS", *_usage(whole))
    yield ".SH DESCRIPTION"
    yield from _body(whole.paragraphs)
    yield ".SH OPTIONS"
    yield from _terms(whole.options)
    yield ".SH COMMANDS"
    for part in parts:
        yield f".SS {_text(part.name)}"
        yield from _usage(part)
        yield ".PP"
        yield from _body(part.paragraphs)
        yield from _terms(part.options)
    for title, terms in AFTER:
        yield f".SH {title}"
        yield from _terms([Option(*term) for term in terms])


def _usage(command: Described) -> Iterator[str]:
    yield rf"\fB{_text(command.name)}\fR {_text(command.usage)}"


def _body(paragraphs: tuple[Paragraph, ...]) -> Iterator[str]:
    for place, paragraph in enumerate(paragraphs):
        if place:
            yield ".PP"
        if paragraph.verbatim:
            yield from (".RS 4", ".nf", *map(_text, paragraph.text.splitlines()), ".fi", ".RE")
        else:
            yield _text(paragraph.text)


def _terms(options: tuple[Option, ...] | list[Option]) -> Iterator[str]:
    for option in options:
        yield from (".TP", rf"\fB{_text(option.forms)}\fR", _text(option.help))


def _text(text: str) -> str:
    """With nothing in it that troff would take for a request, but bold for `code`."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    escaped = re.sub("`([^`]*)`", r"\\fB\1\\fR", escaped)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
