"""What one member makes of the others' records: order, freshness, ends; without any of the rest."""

import struct

import pytest

from cuse_crypto_chat import members
from cuse_crypto_chat.events import Alarm, Cut, Joined, Left, Said
from cuse_crypto_chat.members import Confirm, Greet, Members, Outcome
from cuse_crypto_chat.records import (
    BY_BODY,
    NOBODY,
    Alive,
    Body,
    End,
    Greeting,
    Header,
    Hello,
    Seen,
    Text,
)
from cuse_crypto_chat.stream import Numbers

OWN, HERS, HIS = b"o" * 16, b"h" * 16, b"i" * 16
PROGRAM = b"p" * 16
NOW = 1_700_000_000.0
MS = int(NOW * 1000)
HELLO = Hello(PROGRAM, MS, "alice")


def greeting(next_: int, name: str = "alice", program: bytes = PROGRAM) -> Greeting:
    return Greeting(next_, program, MS, name)


def text(number: int) -> Text:
    return Text(MS, number, f"text {number}")


class Room:
    """Feeds records to a member, and remembers what comes of them."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.members = Members(OWN, "bob", self.numbers)

    def gets(
        self,
        body: Body | None,
        sequence: int = 0,
        stream: bytes = HERS,
        member: int = 1,
        kind: type = Text,
    ) -> list[Outcome]:
        row = BY_BODY[type(body) if body is not None else kind]
        header = Header(1, row.number, 0, sequence, stream, OWN if row.direct else NOBODY)
        refusal = self.members.refuses(header)
        if refusal:
            return list(self.members.blame(refusal, NOW))
        return list(self.members.opened(member, header, body, NOW))

    def believes(self, next_: int = 0) -> None:
        """alice, from her next record on."""
        assert self.gets(greeting(next_)) == [Greet(HERS, 1), Joined("alice", NOW, here=True)]


@pytest.fixture
def room() -> Room:
    return Room()


def said(outcomes: list[Outcome]) -> list[str]:
    return [one.text for one in outcomes if isinstance(one, Said)]


def alarms(outcomes: list[Outcome]) -> list[str]:
    return [one.text for one in outcomes if isinstance(one, Alarm)]


def test_a_newcomer_is_kept_until_it_has_proven_itself(room: Room) -> None:
    assert room.gets(HELLO) == [Greet(HERS, 1)]
    assert room.gets(text(1), 1) == []
    assert not room.members.present()
    outcomes = room.gets(greeting(2))
    assert outcomes[0] == Joined("alice", NOW)
    assert said(outcomes) == ["text 1"]
    assert said(room.gets(text(2), 2)) == ["text 2"]
    assert [one.name for one in room.members.present()] == ["alice"]


def test_one_who_was_there_is_heard_from_her_greeting_on(room: Room) -> None:
    assert room.gets(text(7), 7) == [Greet(HERS, 1)]
    assert room.gets(greeting(8)) == [Joined("alice", NOW, here=True)]
    assert said(room.gets(text(8), 8)) == ["text 8"]


def test_what_lacks_before_the_greeting_is_missed(room: Room) -> None:
    room.gets(HELLO)
    assert alarms(room.gets(greeting(3))) == ["2 records are missing of what alice sent"]


def test_gaps_repetitions_and_changes(room: Room) -> None:
    room.believes(5)
    assert said(room.gets(text(1), 5)) == ["text 1"]
    gap = room.gets(text(4), 8)
    assert alarms(gap) == ["2 records are missing of what alice sent"]
    assert said(gap) == ["text 4"]
    for sequence in (8, 6, 0):
        again = room.gets(text(4), sequence)
        assert not said(again)
        assert "came again or out of order" in alarms(again)[0]
    assert "was changed on its way" in alarms(room.gets(None, 9))[0]
    assert said(room.gets(text(5), 9)) == ["text 5"]
    end = room.gets(End(MS), 10)
    assert end == [Left("alice", NOW), Confirm(HERS, 1, Seen(11, 2))]


def test_what_has_ended_does_not_come_back(room: Room) -> None:
    room.believes()
    room.gets(End(MS), 0)
    for body in (text(1), greeting(1), HELLO):
        assert "has ended" in alarms(room.gets(body, 1))[0]
    assert not room.members.present()


def test_cut_or_left(room: Room) -> None:
    room.believes()
    assert list(room.members.left(2, "another", NOW)) == []
    assert list(room.members.left(1, "it was slow", NOW)) == [Cut("alice", NOW, "it was slow")]
    assert list(room.members.left(1, "again", NOW)) == []
    assert "has ended" in alarms(room.gets(text(1), 0))[0]


def test_reflected_and_misdirected(room: Room) -> None:
    assert "sent a record of ours back" in alarms(room.gets(text(1), 0, OWN))[0]
    header = Header(1, BY_BODY[Greeting].number, 0, 0, HERS, HIS)
    assert "for somebody else" in room.members.refuses(header)


def test_a_greeting_that_is_played_again(room: Room) -> None:
    room.believes()
    assert alarms(room.gets(greeting(0))) == ["a greeting of alice came twice"]


def test_another_secret(room: Room) -> None:
    first = room.gets(None, kind=Hello)
    assert first[0] == Greet(HERS, 1), "which tells the other as well"
    assert alarms(first) == [members.ANOTHER_SECRET]
    assert room.gets(None, 1) == []
    assert room.members.strangers_unread == 1
    assert room.members.answered == {1}


def test_messages_are_counted_over_connections(room: Room) -> None:
    room.believes()
    room.gets(text(1), 0)
    room.gets(text(2), 1)
    room.members = Members(OWN[::-1], "bob", room.numbers)
    header = Header(1, BY_BODY[Greeting].number, 0, 0, HIS, OWN[::-1])
    list(room.members.opened(2, header, greeting(1), NOW))
    assert not said(room.gets(text(2), 1, HIS, 2)), "it was said again"
    outcomes = room.gets(text(3), 2, HIS, 2)
    assert alarms(outcomes) == []
    assert said(outcomes) == ["text 3"]


def test_messages_that_were_lost_between_connections(room: Room) -> None:
    room.believes()
    room.gets(text(1), 0)
    list(room.members.left(1, "lost", NOW))
    room.gets(greeting(1), stream=HIS, member=2)
    outcomes = room.gets(text(4), 1, HIS, 2)
    assert alarms(outcomes) == ["2 messages of alice did not reach us"]
    assert said(outcomes) == ["text 4"]


def test_confirmations(room: Room) -> None:
    room.believes()
    (alice,) = room.members.present()
    assert alarms(room.gets(Seen(3, 2))) == ["alice lacks 2 records of what we sent"]
    assert alice.confirmed_us
    assert room.gets(Seen(3, 9)) == []


def test_names(room: Room) -> None:
    names = []
    for number, name in enumerate(("bob", "al\x1bice", "al\x1bice", "", "x" * 100), 1):
        stream = struct.pack(">QQ", number, 0)
        found = room.gets(greeting(0, name, stream), stream=stream, member=number)
        names += [one.who for one in found if isinstance(one, Joined)]
    assert names == ["bob~000000", "al\\x1bice", "al\\x1bice~000000", "nobody", "x" * 32]


def test_silence_and_clocks(room: Room) -> None:
    room.believes()
    assert list(room.members.overdue(NOW + 89)) == []
    (silent,) = room.members.overdue(NOW + 91)
    assert isinstance(silent, Alarm)
    assert "nothing came from alice for 90 s" in silent.text
    assert list(room.members.overdue(NOW + 100)) == [], "it is said once"
    assert room.gets(Alive(MS), 0) == []
    assert "the clock of alice differs" in alarms(room.gets(Alive(MS - 61_000), 1))[0]
    assert room.gets(Alive(MS - 61_000), 2) == [], "it is said once"


def test_strangers_that_prove_nothing(room: Room) -> None:
    room.gets(HELLO)
    room.gets(None, stream=HIS, member=2)
    assert list(room.members.overdue(NOW + 9)) == []
    assert ["may be old" in text for text in alarms(list(room.members.overdue(NOW + 11)))] == [True]


def test_a_server_cannot_fill_the_memory(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_STREAMS", 10)
    monkeypatch.setattr(members, "MAX_HELD", 10_000)
    room.believes()
    for number in range(1000):
        room.gets(HELLO, stream=struct.pack(">QQ", number, 1), member=2)
        room.gets(None, stream=struct.pack(">QQ", number, 2), member=3)
    assert len(room.members._streams) <= 10
    assert room.members._blamed == 1000
    kept = struct.pack(">QQ", 999, 1)
    for number in range(1, 1000):
        room.gets(Text(MS, number, "x" * 1000), number, kept, 2)
    assert room.members._held <= 10_000
    assert [one.name for one in room.members.present()] == ["alice"]
    list(room.members.left(2, "", NOW))
    list(room.members.left(3, "", NOW))
    assert room.members._held == 0


def test_alarms_have_an_end(room: Room) -> None:
    room.believes()
    told = [alarm for _ in range(100) for alarm in alarms(room.gets(None, 5))]
    told += [alarm for _ in range(100) for alarm in alarms(room.gets(text(1), 0, OWN))]
    assert len(told) <= 2 * (members.MAX_ALARMS + 1)
    assert "alice is not listened to any more" in told
    assert "more of that will not be told" in told
