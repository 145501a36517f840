"""The commands as the parser knows them, for whatever describes them: the man page, the site."""

import inspect
from collections.abc import Iterator
from typing import NamedTuple

import click


class Paragraph(NamedTuple):
    """Of a help text. Lines of a ``verbatim`` one are kept as they are."""

    text: str
    verbatim: bool


class Option(NamedTuple):
    """``forms`` as in ``-v, --verbose``, ``--name TEXT``; ``help`` with default and range."""

    forms: str
    help: str


class Described(NamedTuple):
    """One command. ``usage`` is what follows its ``name``, which is that of the whole path."""

    name: str
    usage: str
    summary: str
    paragraphs: tuple[Paragraph, ...]
    options: tuple[Option, ...]


def describe(command: click.Command, name: str) -> Iterator[Described]:
    """``command`` and what is below it, as ``--help`` lists them; what is hidden is left out."""
    return _describe(click.Context(command, info_name=name, **command.context_settings))


def _describe(context: click.Context) -> Iterator[Described]:
    command = context.command
    yield Described(
        context.command_path,
        " ".join(command.collect_usage_pieces(context)),
        command.get_short_help_str(limit=10_000),
        tuple(_paragraphs(command.help or "")),
        tuple(_options(context)),
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below and not below.hidden:
                yield from _describe(click.Context(below, info_name=name, parent=context))


def _paragraphs(text: str) -> Iterator[Paragraph]:
    for block in inspect.cleandoc(text).split("\n\n"):
        verbatim = block.startswith("\b\n")
        yield Paragraph(block[2:] if verbatim else " ".join(block.split()), verbatim)


def _options(context: click.Context) -> Iterator[Option]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        said_once = context.parent and "--help" in parameter.opts
        if record and not said_once:
            yield Option(record[0], " ".join(record[1].split()))
