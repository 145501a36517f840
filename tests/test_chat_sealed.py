"""The default wire, with members, a server, and somebody between them who meddles; on the node."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio

from cuse_crypto_chat import members, session
from cuse_crypto_chat.events import Cut, Joined, Left
from cuse_crypto_chat.frames import HEADER as FRAME
from cuse_crypto_chat.host import FULL
from cuse_crypto_chat.records import BY_BODY, HEADER, SIZES, Seen, Text
from cuse_crypto_chat.screen import in_words
from tests.chatting import KEY, Meddle, Member, Proxy, member, run_chat, server
from tests.conftest import Service

pytestmark = pytest.mark.node

LINES = [f"line {number}: the quick brown fox jumps over the lazy dog" for number in range(6)]
TEXT = BY_BODY[Text].number


@contextlib.asynccontextmanager
async def two(device: Service, proxied: bool = True) -> AsyncIterator[tuple[Member, Member, Proxy]]:
    """alice, who is connected by way of the proxy, and bob, who is not."""
    async with server() as port:
        proxy = Proxy(port)
        async with (
            proxy.running() as between,
            member(port, "bob", device.path) as bob,
            member(between, "alice", device.path) as alice,
        ):
            await bob.screen.until_joined("alice")
            await alice.screen.until_joined("bob")
            yield alice, bob, proxy


def test_nothing_that_is_said_can_be_read_on_the_way(openssl_device: Service) -> None:
    async def main() -> None:
        async with two(openssl_device) as (alice, bob, proxy):
            alice.screen.say(*LINES)
            await bob.screen.until(lambda s: len(s.texts()) == len(LINES))
            bob.screen.say("short", "x" * 200)
            await alice.screen.until(lambda s: len(s.texts()) == 2)
            alice.screen.end()
            await bob.screen.until(lambda s: any(isinstance(one, Left) for one in s.events))
            await alice.done.wait()
        assert bob.screen.texts("alice") == LINES
        assert alice.screen.texts("bob") == ["short", "x" * 200]
        assert not alice.screen.alarms() + bob.screen.alarms()
        for word in (b"line", b"fox", b"alice", b"bob", b"short", b"xxx", KEY):
            assert word not in proxy.recorded

    run_chat(main)


def is_text(frame: bytes) -> bool:
    return bool(HEADER.unpack_from(frame, FRAME.size)[1] == TEXT)


class Meddler:
    """Does something to the third text, and perhaps to the fourth."""

    def __init__(self, change: Meddle) -> None:
        self._change = change
        self._texts = 0

    def __call__(self, count: int, frame: bytes) -> list[bytes]:
        if not is_text(frame):
            return [frame]
        self._texts += 1
        return self._change(self._texts - 1, frame)


def flipped(at: int) -> Meddle:
    def change(count: int, frame: bytes) -> list[bytes]:
        changed = bytearray(frame)
        changed[at] ^= 1
        return [bytes(changed)] if count == 2 else [frame]

    return change


def dropped(count: int, frame: bytes) -> list[bytes]:
    return [] if count == 2 else [frame]


def repeated(count: int, frame: bytes) -> list[bytes]:
    return [frame, frame] if count == 2 else [frame]


def swapped() -> Meddle:
    held: list[bytes] = []

    def change(count: int, frame: bytes) -> list[bytes]:
        if count == 2:
            held.append(frame)
            return []
        return [frame, *held] if count == 3 else [frame]

    return change


SEQUENCE = FRAME.size + 4
CIPHERTEXT = FRAME.size + HEADER.size
ALL = list(range(len(LINES)))
WITHOUT = [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "shown", "alarms"),
    [
        (flipped(CIPHERTEXT), WITHOUT, ["was changed on its way", "1 record is missing"]),
        (flipped(-1), WITHOUT, ["was changed on its way", "1 record is missing"]),
        (flipped(SEQUENCE + 7), WITHOUT, ["was changed on its way", "1 record is missing"]),
        (dropped, WITHOUT, ["1 record is missing"]),
        (repeated, ALL, ["came again or out of order"]),
        (swapped(), WITHOUT, ["1 record is missing", "came again or out of order"]),
    ],
    ids=["ciphertext", "tag", "sequence", "dropped", "repeated", "swapped"],
)
def test_meddling_is_noticed(
    change: Meddle, shown: list[int], alarms: list[str], openssl_device: Service
) -> None:
    async def main() -> None:
        async with two(openssl_device) as (alice, bob, proxy):
            proxy.from_client = Meddler(change)
            alice.screen.say(*LINES)
            await bob.screen.until(lambda s: LINES[-1] in s.texts())
            assert bob.screen.texts("alice") == [LINES[index] for index in shown]
            assert len(bob.screen.alarms()) == len(alarms)
            for part, alarm in zip(alarms, bob.screen.alarms(), strict=True):
                assert part in alarm
                assert "alice" in alarm
            alice.screen.end()
            await alice.done.wait()
            lacks = [text for text in alice.screen.alarms() if "bob lacks 1 record" in text]
            assert bool(lacks) == (change is not repeated)

    run_chat(main)


@pytest.mark.parametrize("how", ["in a record", "between records"])
def test_a_cut_is_noticed(how: str, openssl_device: Service) -> None:
    async def main() -> None:
        async with two(openssl_device) as (alice, bob, proxy):

            def cut(count: int, frame: bytes) -> list[bytes]:
                part = frame[: 100 if how == "in a record" else 0]
                return [part] if is_text(frame) else [frame]

            proxy.from_client = cut
            alice.screen.say(*LINES)
            await bob.screen.until(lambda s: any(isinstance(one, Cut) for one in s.events))
            (event,) = (one for one in bob.screen.events if isinstance(one, Cut))
            assert "alice was cut off, without a goodbye" in in_words(event)
            proxy.from_client = lambda count, frame: [frame]
            await bob.screen.until(lambda s: len(s.texts()) == len(LINES))
            assert bob.screen.texts() == LINES, "said again on a new connection"

    run_chat(main)


def test_reflection_is_noticed(openssl_device: Service) -> None:
    async def main() -> None:
        async with two(openssl_device) as (alice, bob, proxy):
            sent: list[bytes] = []
            proxy.from_client = lambda count, frame: [sent.append(frame) or frame]  # type: ignore[func-returns-value]
            proxy.from_server = lambda count, frame: [frame, *sent]
            alice.screen.say("mine")
            await bob.screen.until(lambda s: s.texts() == ["mine"])
            bob.screen.say("yours")
            await alice.screen.until(lambda s: s.alarms())
            assert alice.screen.alarms() == [
                "the server sent a record of ours back to us; it is not shown"
            ]
            assert alice.screen.texts() == ["yours"]

    run_chat(main)


def test_what_was_said_before_cannot_be_played_to_a_newcomer(
    openssl_device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "UNPROVEN", 0.2)
    monkeypatch.setattr(session, "TICK", 0.1)

    async def main() -> None:
        old: list[bytes] = []
        async with two(openssl_device) as (alice, bob, proxy):
            proxy.from_client = lambda count, frame: [old.append(frame) or frame]  # type: ignore[func-returns-value]
            alice.screen.say(*LINES)
            await bob.screen.until(lambda s: len(s.texts()) == len(LINES))
        async with server() as port:
            proxy = Proxy(port)
            async with (
                member(port, "carol", openssl_device.path) as carol,
                proxy.running() as between,
                member(between, "dave", openssl_device.path) as dave,
            ):
                await carol.screen.until_joined("dave")
                await dave.screen.until_joined("carol")
                proxy.from_server = lambda count, frame: [*old, frame]
                carol.screen.say("now")
                await dave.screen.until(lambda s: s.alarms())
                assert dave.screen.texts() == ["now"]
                assert [one.who for one in dave.screen.events if isinstance(one, Joined)] == [
                    "carol"
                ]
                assert "they may be old" in dave.screen.alarms()[0]

    run_chat(main)


def test_a_server_that_withholds_is_noticed(
    openssl_device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "SILENCE", 0.3)
    monkeypatch.setattr(session, "TICK", 0.1)

    async def main() -> None:
        async with two(openssl_device) as (alice, bob, proxy):
            proxy.from_client = lambda count, frame: []
            alice.screen.say("lost")
            await bob.screen.until(lambda s: s.alarms())
            assert "nothing came from alice" in bob.screen.alarms()[0]

    run_chat(main)


def test_another_secret(openssl_device: Service) -> None:
    async def main() -> None:
        async with server() as port, member(port, "bob", openssl_device.path) as bob:
            await bob.client.connected.wait()
            async with member(port, "eve", openssl_device.path, key=bytes(32)) as eve:
                assert await eve.fails() == session.WRONG_SECRET
            await bob.screen.until(lambda s: s.alarms())
            assert bob.screen.alarms() == [members.ANOTHER_SECRET]

    run_chat(main)


def test_long_messages(openssl_device: Service) -> None:
    async def main() -> None:
        async with two(openssl_device) as (alice, bob, _):
            texts = ["", "é" * 32768, "a" * 65536, "long" * 20000]
            alice.screen.say(*texts)
            await bob.screen.until(lambda s: "".join(s.texts()) == "".join(texts))
            assert bob.screen.texts()[:3] == texts[:3]

    run_chat(main)


@pytest.mark.parametrize("size", [0, 1, 20, 200, 232])
def test_lengths_are_hidden(size: int, openssl_device: Service) -> None:
    async def main() -> None:
        async with two(openssl_device) as (alice, bob, proxy):
            sizes: list[int] = []
            proxy.from_client = lambda count, frame: [sizes.append(len(frame)) or frame]  # type: ignore[func-returns-value]
            alice.screen.say("x" * size)
            await bob.screen.until(lambda s: s.texts())
            assert sizes == [FRAME.size + HEADER.size + SIZES[0] + 16]

    run_chat(main)


def test_equal_names_are_told_apart(openssl_device: Service) -> None:
    async def main() -> None:
        async with (
            server() as port,
            member(port, "bob", openssl_device.path) as bob,
            member(port, "alice", openssl_device.path) as first,
        ):
            await bob.screen.until_joined("alice")
            async with member(port, "alice", openssl_device.path) as second:
                await bob.screen.until(lambda s: sum(isinstance(o, Joined) for o in s.events) == 2)
                names = [one.who for one in bob.screen.events if isinstance(one, Joined)]
                assert names[0] == "alice"
                assert names[1].startswith("alice~")
                second.screen.say("second")
                first.screen.say("first")
                await bob.screen.until(lambda s: len(s.texts()) == 2)
                assert bob.screen.texts("alice") == ["first"]

    run_chat(main)


def test_a_lost_server_is_found_again(openssl_device: Service) -> None:
    async def main() -> None:
        proxy = Proxy(0)
        async with server() as first, server() as second, proxy.running() as between:
            proxy.target = first
            async with (
                member(between, "alice", openssl_device.path) as alice,
                member(between, "bob", openssl_device.path) as bob,
            ):
                await alice.screen.until_joined("bob")
                await bob.screen.until_joined("alice")
                alice.screen.say("before")
                await bob.screen.until(lambda s: s.texts() == ["before"])
                proxy.target = between + 1 if between < 65535 else 1
                proxy.lose()
                alice.screen.say("between")
                await alice.screen.until(lambda s: "connection lost" in " ".join(s.notices()))
                proxy.target = second
                await bob.screen.until(lambda s: s.texts() == ["before", "between"])
                assert "connected again" in " ".join(bob.screen.notices())

    run_chat(main)


def test_the_end_of_input_waits_for_everybody(openssl_device: Service) -> None:
    async def main() -> None:
        async with (
            server() as port,
            member(port, "bob", openssl_device.path) as bob,
            member(port, "carol", openssl_device.path) as carol,
        ):
            await bob.screen.until_joined("carol")
            await carol.screen.until_joined("bob")
            async with member(port, "alice", openssl_device.path) as alice:
                alice.screen.say(*LINES)
                alice.screen.end()
                await alice.done.wait()
                assert bob.screen.texts() == LINES
                assert carol.screen.texts() == LINES

    run_chat(main)


def test_all_leave_at_once(openssl_device: Service) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(server())
            names = [f"member{number}" for number in range(6)]
            everybody = [
                await stack.enter_async_context(member(port, name, openssl_device.path))
                for name in names
            ]
            for one, name in zip(everybody, names, strict=True):
                await one.screen.until_joined(*(set(names) - {name}))
            for one in everybody:
                one.screen.end()
            for one in everybody:
                assert await one.fails() == ""
                assert not one.screen.alarms()
                assert not any(isinstance(event, Cut) for event in one.screen.events)

    run_chat(main)


def test_who_is_leaving_greets_nobody(
    openssl_device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FAREWELL", 1.0)

    def no_seen(count: int, frame: bytes) -> list[bytes]:
        kind = HEADER.unpack_from(frame, FRAME.size)[1]
        return [] if kind == BY_BODY[Seen].number else [frame]

    async def main() -> None:
        async with server() as port:
            proxy = Proxy(port)
            proxy.from_client = no_seen
            async with (
                proxy.running() as between,
                member(between, "bob", openssl_device.path) as bob,
                member(port, "alice", openssl_device.path) as alice,
            ):
                await alice.screen.until_joined("bob")
                await bob.screen.until_joined("alice")
                alice.screen.end()
                await bob.screen.until(lambda s: any(isinstance(one, Left) for one in s.events))
                async with member(port, "carol", openssl_device.path) as carol:
                    await carol.screen.until_joined("bob")
                    assert "by bob" in await alice.fails(), "who has not confirmed"
                    carol.screen.say("are you there?")
                    await bob.screen.until(lambda s: s.texts())
                    assert carol.screen.joined() == ["bob"]
                    assert not carol.screen.alarms() + bob.screen.alarms()

    run_chat(main)


def test_too_many(openssl_device: Service) -> None:
    async def main() -> None:
        async with server(max_clients=1) as port, member(port, "bob", openssl_device.path) as bob:
            await bob.client.connected.wait()
            async with member(port, "eve", openssl_device.path) as eve:
                assert await eve.fails() == FULL

    run_chat(main)


def test_the_server_says_goodbye(openssl_device: Service) -> None:
    async def main() -> None:
        ended = trio.Event()
        async with server(ended) as port, member(port, "bob", openssl_device.path) as bob:
            await bob.client.connected.wait()
            ended.set()
            await bob.done.wait()
            assert bob.screen.notices() == ["the server says goodbye: the server ends"]

    run_chat(main)
