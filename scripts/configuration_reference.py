"""``python -m scripts.configuration_reference``: bring the tables of docs/service.md up to date.

Everything is said by the command line's parser; a test compares.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cuse_crypto.cli.configuration import OfInstance, configurable
from cuse_crypto.cli.main import cli

DOCUMENT = Path(__file__).parent.parent / "docs" / "service.md"
BEGIN = "<!-- from the parser: python -m scripts.configuration_reference -->\n"
END = "<!-- until here -->\n"


def reference() -> str:
    """One section for each table that a configuration file may have."""
    return "\n".join(
        "\n".join(_section(keys, command, options))
        for keys, command, options in configurable(cli, click.Context(cli))
    )


def _section(
    keys: tuple[str, ...], command: click.Command, options: Mapping[str, click.Option]
) -> Iterator[str]:
    name = ".".join(keys)
    instances = f", `[{name}.NAME]`" if isinstance(command, OfInstance) else ""
    yield from (f"### `[{name}]`{instances}", "", "| key | default | |", "|---|---|---|")
    for key, option in options.items():
        yield f"| `{key}` | {_default(option)} | {_help(option)} |"
    yield ""


def _default(option: click.Option) -> str:
    value: Any = option.to_info_dict()["default"]
    if option.required or value is None or value == "" or callable(value):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value}`"
    if isinstance(value, list | tuple):
        return "`[]`" if not value else f"`{list(value)}`"
    return f'`"{value}"`'


def _help(option: click.Option) -> str:
    choices = getattr(option.type, "choices", ())
    words = [option.help or "", f"One of {', '.join(map(str, choices))}." if choices else ""]
    return " ".join(word for word in words if word).replace("|", "\\|").replace("\n", " ")


def updated(text: str) -> str:
    """The document with today's tables."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text()))
