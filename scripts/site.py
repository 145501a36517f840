"""mkdocs' hooks: what the site shows that is no file of docs/.

The reference of the command line comes from the parser, and some documents lie beside the code that
they describe.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from cuse_crypto.cli.described import Described, describe
from cuse_crypto.cli.main import cli

PROJECT = Path(__file__).resolve().parent.parent
ELSEWHERE = {
    "protocol.md": "cuse_crypto/wire/PROTOCOL.md",
    "chat-wires.md": "chat/WIRE.md",
    "changelog.md": "CHANGELOG.md",
}
COMMANDS = "commands.md"
LINK = re.compile(r"\[([^]]*)]\(([\w/.-]+)((?:#[^)]*)?)\)")
"""Text, path and anchor; no address with a scheme, which has a colon."""
OTHERS = "How to"
"""The section of pages that mkdocs.yml does not name."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Every page of docs/ is to be found."""
    nav: list[Any] = config.nav or []
    named = re.findall(r"[\w/.-]+\.md", str(nav))
    docs = Path(config.docs_dir)
    pages = sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))
    section = next(one[OTHERS] for one in nav if isinstance(one, dict) and OTHERS in one)
    section += [page for page in pages if page not in named]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """With the pages that are no files of docs/."""
    for name, path in ELSEWHERE.items():
        files.append(File.generated(config, name, abs_src_path=str(PROJECT / path)))
    files.append(File.generated(config, COMMANDS, content=commands()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """With links as they are in the site: what it does not have is named by its path."""
    uri: str = page.file.src_uri
    source = ELSEWHERE.get(uri, f"docs/{uri}")
    here = {path: f"docs/{name}" for name, path in ELSEWHERE.items()}

    def moved(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        path = here.get(path, path)
        if not path.startswith("docs/"):
            return f"{text} (`{path}`)"
        return f"[{text}]({os.path.relpath(path, os.path.dirname(f'docs/{uri}'))}{anchor})"

    return LINK.sub(moved, markdown)


def commands() -> str:
    """The reference of the command line, in Markdown."""
    page = ["# Commands", "Written from the parser, as are `--help` and cuse-crypto(1)."]
    for one in describe(cli, "cuse-crypto"):
        page += [f"## {one.name}", f"    {one.name} {one.usage}", *_texts(one), _options(one)]
    return "\n\n".join(page) + "\n"


def _texts(command: Described) -> list[str]:
    return [
        "\n".join(f"    {line}" for line in text.splitlines()) if verbatim else _prose(text)
        for text, verbatim in command.paragraphs
    ]


def _options(command: Described) -> str:
    rows = [f"| `{forms}` | {_prose(text)} |" for forms, text in command.options]
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""


def _prose(text: str) -> str:
    """With what Markdown would take for markup left as it is, but for `code`."""
    parts = text.split("`")
    parts[::2] = [
        re.sub(r"[*_<|\[\]]", lambda one: f"&#{ord(one[0])};", part) for part in parts[::2]
    ]
    return "`".join(parts)
