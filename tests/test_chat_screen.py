"""What is shown of a talk: printable text, rows, scrolling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from cuse_crypto_chat.events import Alarm, Cut, Event, Joined, Left, Notice, Said
from cuse_crypto_chat.screen import in_words
from cuse_crypto_chat.scrollback import MAX_ROWS, Scrollback, line_of, wrap
from cuse_crypto_chat.text import boundary, clean_name, pieces, printable

EVENTS: list[tuple[Event, str]] = [
    (Said("alice", "hello", 100.0, 100.0), "alice: hello"),
    (Said("alice", "a\x1bb\nc", 100.0, 100.0), r"alice: a\x1bb\nc"),
    (Joined("alice\x07", 0.0), r"alice\x07 joined"),
    (Joined("alice", 0.0, here=True), "alice is here"),
    (Left("alice", 0.0), "alice left"),
    (Cut("alice", 0.0, "\x9b1m"), r"alice was cut off, without a goodbye (\x9b1m)"),
    (Alarm("\u202ebad", 0.0), r"\u202ebad"),
    (Notice("fine", 0.0), "fine"),
]


@pytest.mark.parametrize(("event", "words"), EVENTS)
def test_events_in_words(event: Event, words: str) -> None:
    assert in_words(event) == words


def test_late_messages() -> None:
    assert " (sent " in in_words(Said("alice", "old news", 1000.0, 900.0))
    assert " (sent " in in_words(Said("alice", "news of the future", 900.0, 1000.0))


@given(st.text())
def test_any_text_is_made_printable(text: str) -> None:
    assert printable(text).replace("\t", "").isprintable()
    assert len(clean_name(text)) in range(1, 33)
    assert clean_name(text).isprintable()


@given(st.text(), st.integers(4, 20))
def test_pieces(text: str, size: int) -> None:
    data = text.encode()
    parts = list(pieces(data, size))
    assert b"".join(parts) == data
    assert all(len(part) <= size for part in parts)
    assert "".join(part.decode() for part in parts) == text


def test_pieces_of_what_is_no_text() -> None:
    assert boundary(b"\x80" * 10, 4) == 4


@given(st.text(alphabet="ab 漢é", max_size=60), st.integers(2, 30))
def test_wrapping(text: str, width: int) -> None:
    rows = list(wrap(text, width))
    assert all(get_cwidth(row) <= width for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")


def test_wrapping_at_blanks() -> None:
    assert list(wrap("the quick brown fox", 10)) == ["the quick ", "brown fox"]
    assert list(wrap("x" * 25, 10)) == ["x" * 10, "x" * 10, "x" * 5]


def shown(scrollback: Scrollback, height: int = 5) -> list[str]:
    return ["".join(text for _, text in row)[6:] for row in scrollback.view(40, height)]


def filled(count: int) -> Scrollback:
    scrollback = Scrollback()
    for number in range(count):
        scrollback.add(line_of(Notice(f"line {number}", 0.0)))
    return scrollback


def test_the_last_rows_are_shown() -> None:
    assert shown(filled(3)) == ["* line 0", "* line 1", "* line 2"]
    assert shown(filled(9)) == [f"* line {number}" for number in range(4, 9)]


def test_scrolling() -> None:
    scrollback = filled(20)
    scrollback.scroll(4, 5)
    view = shown(scrollback)
    assert view == [f"* line {number}" for number in range(11, 16)]
    scrollback.add(line_of(Notice("new", 0.0)))
    assert shown(scrollback) == view
    assert scrollback.unread == 1
    scrollback.scroll(1000, 5)
    assert shown(scrollback)[0] == "* line 0"
    scrollback.scroll(-1000, 5)
    assert shown(scrollback)[-1] == "* new"
    assert scrollback.unread == 0


def test_one_message_cannot_push_away_all_others() -> None:
    scrollback = filled(1)
    scrollback.add(line_of(Said("eve", "x" * 60000, 0.0, 0.0)))
    rows = shown(scrollback, 10000)
    assert len(rows) == 1 + MAX_ROWS + 1
    assert "more is not shown" in rows[-1]


def test_the_width_changes() -> None:
    scrollback = filled(1)
    scrollback.add(line_of(Said("eve", "word " * 10, 0.0, 0.0)))
    assert len(scrollback.view(100, 10)) == 2
    assert len(scrollback.view(40, 10)) == 3
