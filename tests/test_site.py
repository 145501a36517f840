"""The site of docs/: it builds without a complaint, has every page, and asks nothing of others."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from cuse_crypto.cli.main import COMMANDS, cli
from tests.conftest import PROJECT

LOADED = {"script": "src", "img": "src", "iframe": "src", "object": "data", "source": "src"}


class Page(HTMLParser):
    """What a browser loads for a page, its text, and where its links lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADED:
            self.loaded.append(given.get(LOADED[tag], ""))
        elif tag == "link" and "stylesheet" in given.get("rel", ""):
            self.loaded.append(given["href"])
        elif tag == "a":
            self.links.append(given.get("href", ""))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=PROJECT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, ""), built.stdout + built.stderr
    return folder


def test_every_document_is_a_page_that_the_first_one_leads_to(site: Path) -> None:
    pages = {path.with_suffix(".html").name for path in (PROJECT / "docs").glob("*.md")}
    pages |= {"commands.html", "protocol.html", "chat-wires.html", "changelog.html"}
    assert {page for page in pages if not (site / page).is_file()} == set()
    assert pages <= {link.removeprefix("./") for link in Page(site / "index.html").links}


def test_the_reference_has_all_commands_and_options(site: Path) -> None:
    text = Page(site / "commands.html").text
    for name in COMMANDS:
        assert f"cuse-crypto {name}" in text
        command = cli.get_command(click.Context(cli), name)
        assert command
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[-1] in text, (name, option.name)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        for address in Page(path).loaded:
            assert not re.match(r"[a-z]+:|//", address), (path, address)


def test_links_between_documents_lead_somewhere(site: Path) -> None:
    for path in site.glob("*.html"):
        for link in Page(path).links:
            target = link.partition("#")[0]
            if target and not re.match(r"[a-z]+:|//", target):
                assert (site / target.lstrip("/")).exists(), (path.name, link)


def test_links_that_leave_the_site_are_paths() -> None:
    from scripts.site import on_page_markdown

    page = SimpleNamespace(file=SimpleNamespace(src_uri="adding.md"))
    markdown = (
        "[a](../cuse_crypto/wire/PROTOCOL.md#x) [b](node.md) [c](../demo) [d](https://x.org/)"
    )
    moved = "[a](protocol.md#x) [b](node.md) c (`demo`) [d](https://x.org/)"
    assert on_page_markdown(markdown, page) == moved
    page.file.src_uri = "protocol.md"
    assert on_page_markdown("[e](../../docs/node.md)", page) == "[e](node.md)"
