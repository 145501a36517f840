"""Peers that mean no good: whoever they are, the other side says so, and goes on or ends."""

import contextlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from cuse_crypto_chat import dial, frames, link, relay, room
from cuse_crypto_chat.frames import HEADER, FrameReader, Welcome
from cuse_crypto_chat.room import Allowance
from cuse_crypto_chat.text import clean_name
from tests.chatting import member, run_chat, server
from tests.conftest import Service

JUNK = [
    b"GET / HTTP/1.0\r\n\r\n",
    struct.pack(">IBxxxI", 0xFFFFFFFF, 3, 0),
    bytes(256),
    frames.pack("RECORD", bytes(316)),
    frames.pack_join() * 2,
]


async def answer_to(port: int, data: bytes) -> bytes:
    """What a server sends until it ends the connection."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        answer = b""
        while part := await stream.receive_some():
            answer += part
    return answer


@pytest.mark.parametrize("data", JUNK, ids=range(len(JUNK)))
def test_clients_that_speak_something_else(data: bytes) -> None:
    async def main() -> None:
        async with server() as port:
            *_, last = FrameReader("server").feed(await answer_to(port, data))
            assert last.name == "BYE"
            assert last.payload

    run_chat(main)


def test_a_client_that_never_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "JOINING", 0.3)

    async def main() -> None:
        async with server() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                for byte in frames.pack_join()[:-1] * 100:
                    await stream.send_all(bytes([byte]))
                    with trio.move_on_after(0.05):
                        assert await stream.receive_some() == b""
                        return
            raise AssertionError("it is still there")

    run_chat(main)


def test_a_client_that_gives_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "KEEPALIVE", 1)
    monkeypatch.setattr(relay, "MISSED", 1)

    async def main() -> None:
        async with server() as port:
            names = [f.name for f in FrameReader("server").feed(await answer_to(port, JOIN))]
            assert names == ["WELCOME", "PING"]

    run_chat(main)


JOIN = frames.pack_join()


def test_a_client_that_sends_too_much_is_slowed_down() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main() -> None:
        began = trio.current_time()
        allowance = Allowance(1000)
        await allowance.spend(2000)
        assert trio.current_time() == began, "as much at once"
        for _ in range(10):
            await allowance.spend(1000)
        assert trio.current_time() - began == pytest.approx(10)
        await trio.sleep(100)
        await allowance.spend(2000)
        await allowance.spend(1000)
        assert trio.current_time() - began == pytest.approx(111)

    trio.run(main, clock=clock)


def test_attempts_to_connect_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    monkeypatch.setattr("random.uniform", lambda low, high: high)

    async def main() -> None:
        patience = dial.Patience(60)
        began = trio.current_time()
        times = []
        while await patience.wait():
            times.append(trio.current_time() - began)
        assert times == pytest.approx([0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 30.75, 45.75, 60])
        patience.succeeded()
        assert await patience.wait()

    trio.run(main, clock=clock)


def test_a_full_queue_ends_its_own_client_only() -> None:
    one = room.Room(3, 1000)
    slow, quick = (one.enter(name) for name in ("slow", "quick"))
    assert slow is not None
    assert quick is not None
    slow.present = quick.present = True
    slow.put(bytes(900))
    one.tell_others(None, bytes(200))
    assert slow.dropped == "it did not keep up"
    assert slow.scope.cancel_called
    assert not quick.dropped
    assert one.enter("third") is not None
    assert one.enter("fourth") is None
    one.leave(slow)
    assert one.enter("fourth") is not None


# Servers


@contextlib.asynccontextmanager
async def fake_server(
    answer: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def says(data: bytes, stream: trio.SocketStream) -> None:
    """Send bytes, and then nothing, until the client ends."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(data)
        while await stream.receive_some():
            pass
    await stream.aclose()


WELCOME = frames.pack_welcome(Welcome(1, 15, ()))


@pytest.mark.node
@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "speaks something else"),
        (HEADER.pack(0xFFFFFFFF, 2, 0), "speaks something else"),
        (frames.pack("RECORD", bytes(316)), "RECORD before WELCOME"),
        (frames.pack_welcome(Welcome(1, 301, ())), "speaks something else"),
        (frames.pack_reason("BYE", "no\x1b[2J"), r"no\x1b[2J"),
    ],
)
def test_servers_that_speak_something_else(
    data: bytes, failure: str, openssl_device: Service
) -> None:
    async def main() -> None:
        async with (
            fake_server(partial(says, data)) as port,
            member(port, "bob", openssl_device.path) as bob,
        ):
            assert failure in await bob.fails()

    run_chat(main)


@pytest.mark.node
def test_a_server_that_says_nothing(
    openssl_device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "FIRST_ANSWER", 0.2)
    monkeypatch.setattr(link, "MISSED", 1)

    async def main() -> None:
        async with (
            fake_server(partial(says, b"")) as port,
            member(port, "bob", openssl_device.path) as bob,
        ):
            assert "does not answer" in await bob.fails()
        silent = frames.pack_welcome(Welcome(1, 1, ()))
        async with (
            fake_server(partial(says, silent)) as port,
            member(port, "bob", openssl_device.path, patience=0) as bob,
        ):
            assert "the server does not answer; giving up" in await bob.fails()

    run_chat(main)


@pytest.mark.node
@pytest.mark.parametrize(
    "frame",
    [
        HEADER.pack(0xFFFFFFFF, 3, 0),
        WELCOME,
        frames.pack("RECORD", os.urandom(316))[:100],
        frames.pack("LEFT", b"\xff\x1b", 77),
        frames.pack("RECORD", os.urandom(316), 5),
    ],
    ids=["too long", "twice welcome", "cut", "unknown left", "no record"],
)
def test_a_server_that_breaks_the_protocol(frame: bytes, openssl_device: Service) -> None:
    async def main() -> None:
        async def once(stream: trio.SocketStream) -> None:
            async with stream:
                assert await stream.receive_some() == JOIN
                await stream.send_all(WELCOME)
                assert await stream.receive_some(), "its HELLO"
                await stream.send_all(frame)

        async with (
            fake_server(once) as port,
            member(port, "bob", openssl_device.path, patience=0) as bob,
        ):
            assert "giving up" in await bob.fails()
            assert all(text == clean(text) for text in bob.screen.notices())

    run_chat(main)


def clean(text: str) -> str:
    return text if text.isprintable() else clean_name(text)


async def swallow(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some(1 << 20):
            pass


@pytest.mark.node
@pytest.mark.parametrize("size", [316, 1084])
def test_a_flood_of_records_is_told_in_few_lines(size: int, openssl_device: Service) -> None:
    async def main() -> None:
        flood = b"".join(
            frames.pack("RECORD", b"\1\3\0\0" + bytes(8) + os.urandom(16) + bytes(size - 28), n)
            for n in range(2000)
        )

        async def floods(stream: trio.SocketStream) -> None:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(swallow, stream)
                await stream.send_all(WELCOME + flood + frames.pack_reason("BYE", "enough"))

        async with (
            fake_server(floods) as port,
            member(port, "bob", openssl_device.path) as bob,
        ):
            await bob.done.wait()
            assert len(bob.screen.alarms()) <= 21

    run_chat(main)
