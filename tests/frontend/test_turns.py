"""Turns: what one user may have done at once, and what becomes of one whose memory hangs."""

import errno
from collections import Counter

import pytest

from cuse_crypto.frontend import turns as module
from cuse_crypto.frontend.turns import HUNG, PENALTY, Turns, uid_of
from cuse_crypto.fuse.protocol import IN_HEADER, fuse_in_header

ONE, TWO, THREE = 1001, 1002, 1003
NOBODY: Counter[int] = Counter()


def message(uid: int, unique: int) -> bytes:
    return IN_HEADER.bytes(fuse_in_header(40, 39, unique, 1, uid, 0, 1, 0, 0))


def begin(turns: Turns, uid: int, *uniques: int) -> list[bool]:
    return [turns.begin(uid, unique, memoryview(message(uid, unique))) for unique in uniques]


def test_what_waits_is_next() -> None:
    told: list[int] = []
    turns = Turns(2, 1, told.append)
    assert begin(turns, ONE, 1, 2, 3, 4) == [True, True, False, False]
    assert told == [ONE, ONE]
    assert begin(turns, TWO, 5) == [True]
    assert turns.finish(ONE) == message(ONE, 3)
    assert turns.finish(ONE) == message(ONE, 4)
    assert [turns.finish(ONE), turns.finish(ONE)] == [None, None]
    assert begin(turns, ONE, 6) == [True]


def test_what_is_let_go_is_not_done() -> None:
    turns = Turns(1, 1)
    assert begin(turns, ONE, 1, 2, 3) == [True, False, False]
    turns.forget(2)
    turns.forget(4711)
    assert turns.finish(ONE) == message(ONE, 3)
    assert turns.finish(ONE) is None


@pytest.mark.parametrize(("limit", "most"), [("MOST_WAITING", 2), ("MOST_BYTES", 80)])
def test_too_many_wait(monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    monkeypatch.setattr(module, limit, most)
    turns = Turns(1, 1)
    assert begin(turns, ONE, 1, 2, 3) == [True, False, False]
    with pytest.raises(OSError) as refused:
        begin(turns, ONE, 4)
    assert refused.value.errno == errno.EAGAIN
    assert begin(turns, TWO, 5) == [True]
    assert turns.finish(ONE) == message(ONE, 2)
    assert begin(turns, ONE, 4) == [False]
    assert [turns.finish(ONE), turns.finish(ONE)] == [message(ONE, 3), message(ONE, 4)]
    assert begin(turns, ONE, 6, 7) == [False, False]


def test_one_that_hangs_begins_nothing_more() -> None:
    turns = Turns(8, 4)
    hung = Counter({ONE: HUNG})
    assert turns.update(hung, NOBODY, set(), (), 0.0) == []
    assert turns.hangs(ONE)
    assert begin(turns, ONE, 1) == [False]
    assert begin(turns, TWO, 2) == [True]
    assert turns.update(NOBODY, NOBODY, set(), (), 1.0) == [message(ONE, 1)]
    assert not turns.hangs(ONE)


def test_a_restriction_ends() -> None:
    turns = Turns(8, 1)
    turns.update(NOBODY, NOBODY, {ONE}, (), 0.0)
    assert begin(turns, ONE, 1, 2, 3) == [True, False, False]
    assert turns.update(NOBODY, NOBODY, set(), (), PENALTY / 2) == []
    released = turns.update(NOBODY, NOBODY, set(), (), PENALTY)
    assert released == [message(ONE, 2), message(ONE, 3)]
    assert not turns.restricted


def test_restricted_users_share_in_rotation() -> None:
    turns = Turns(8, 2)
    turns.update(NOBODY, NOBODY, {ONE, TWO}, (), 0.0)
    assert begin(turns, ONE, 1, 2, 3, 4) == [True, True, False, False]
    assert begin(turns, TWO, 5, 6) == [False, False]
    assert begin(turns, THREE, 7, 8, 9) == [True, True, True]
    done = [turns.finish(ONE), turns.finish(ONE), turns.finish(ONE), turns.finish(TWO)]
    assert [uid_of(one) for one in done if one] == [ONE, TWO, ONE, TWO]


def test_those_that_hang_do_not_use_up_the_share() -> None:
    turns = Turns(8, 1)
    assert begin(turns, ONE, 1) == [True]
    turns.update(Counter({ONE: 1}), Counter({ONE: 1}), set(), (), 0.0)
    turns.update(Counter({ONE: 1}), Counter({ONE: 1}), {TWO}, (), 0.0)
    assert begin(turns, TWO, 2, 3) == [True, False]


def test_shares_shrink_with_the_users_that_hang() -> None:
    turns = Turns(8, 4)
    turns.update(Counter({ONE: 1, TWO: 1}), NOBODY, set(), (), 0.0)
    assert begin(turns, THREE, 1, 2, 3) == [True, True, False]


def test_nobody_restricted_begins_where_too_many_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HUNG", 1)
    turns = Turns(8, 4)
    turns.update(Counter({ONE: 1}), NOBODY, {TWO}, (), 0.0)
    assert begin(turns, TWO, 1) == [False]
    assert begin(turns, THREE, 2) == [True]
