"""The chat in a real terminal: what the screen shows, and what keys do."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Compile, Service, StartDevice, start
from tests.ptys import CTRL_C, CTRL_D, ENTER, PAGE_DOWN, PAGE_UP, Pty
from tests.talkers import Talker, ours

pytestmark = pytest.mark.node

SECRET = "correct horse battery staple"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server; a test's clients have ended before the next one's are there."""
    service = start("chat", "serve", "--host", "127.0.0.1", "--port", "0")
    try:
        yield int(service.ready.split()[-1])
    finally:
        assert service.stop(signal.SIGINT) == 0


def connect(port: int, device: Path, secret: Path, name: str) -> tuple[object, ...]:
    where = "chat", "connect", "127.0.0.1", port, "--device", device
    return *where, "--secret-file", secret, "--name", name


def test_a_talk(port: int, openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    with (
        Pty(*connect(port, device, secret, "alice")) as alice,
        Pty(*connect(port, device, secret, "bob")) as bob,
    ):
        alice.shows("bob ", "alice  2 here")
        bob.shows("alice ", "bob  2 here")
        alice.type("hello, bob" + ENTER)
        alice.shows("alice hello, bob")
        bob.shows("alice hello, bob")

        assert bob.colour("alice hello") not in ("default", bob.colour("hello, bob"))

        bob.type("half a sent")
        bob.shows("> half a sent")
        alice.type("I interrupt" + ENTER)
        bob.shows("alice I interrupt", "> half a sent")
        bob.type("ence" + ENTER)
        alice.shows("bob half a sentence")
        bob.until(lambda screen: screen.rstrip().endswith(">"))

        alice.type("/who" + ENTER)
        alice.shows("alice (you), bob (since ")
        alice.type("/nonsense" + ENTER)
        alice.shows("/quit  leave")
        alice.type("//slashed" + ENTER)
        bob.shows("alice /slashed")

        alice.type("/quit" + ENTER)
        assert alice.wait() == 0
        assert alice.modes() == alice.before
        bob.shows("alice left")
        bob.type(CTRL_D)
        assert bob.wait() == 0


def test_nothing_drives_the_terminal(port: int, openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    evil = "\x1b]0;title\x07 \x1b[2J \x9b31m \u202egnp.exe \r over"
    with Pty(*connect(port, device, secret, "bob")) as bob:
        bob.shows("1 here")
        with ours(*connect(port, device, secret, "e\x1b[31mve")[1:]) as eve:
            eve.say(evil)
            bob.shows(r"\x1b]0;title\x07 \x1b[2J \x9b31m \u202egnp.exe \r over", r"e\x1b[31mve")
            assert eve.end() == 0
        assert b"title\x07" not in bob.raw
        assert "\u202e".encode() not in bob.raw
        bob.type(CTRL_C)
        assert bob.wait() == 0


def test_scrolled_up(port: int, openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    with Pty(*connect(port, device, secret, "bob")) as bob:
        bob.shows("1 here")
        with ours(*connect(port, device, secret, "eve")[1:]) as eve:
            for number in range(100):
                eve.say(f"message {number}")
            bob.shows("eve message 99")
            bob.type(PAGE_UP)
            bob.until(lambda screen: "eve message 99" not in screen)
            top = bob.lines()[0]
            for number in range(100, 103):
                eve.say(f"message {number}")
            bob.shows("3 unread")
            assert bob.lines()[0] == top, "the view stays where it is"
            bob.type(PAGE_DOWN * 3)
            bob.shows("eve message 102")
            bob.until(lambda screen: "unread" not in screen)
            bob.resize(10, 40)
            os.kill(bob.process.pid, signal.SIGWINCH)
            bob.until(lambda _: bob.lines()[0][6:] == "eve message 95")
            assert eve.end() == 0


def test_the_secret_is_asked_for_without_echo(
    port: int, openssl_device: Service, secret: Path
) -> None:
    command = connect(port, openssl_device.path, secret, "bob")
    with Pty(*[part for part in command if part not in ("--secret-file", secret)]) as bob:
        bob.shows("Secret of the room:")
        bob.type(SECRET + ENTER)
        bob.shows("bob  1 here")
        with ours(*connect(port, openssl_device.path, secret, "eve")[1:]) as eve:
            eve.say("the same")
            bob.shows("eve the same")
            assert eve.end() == 0
        assert SECRET.encode() not in bob.raw
        bob.type(CTRL_C)
        assert bob.wait() == 0


def test_the_device_goes_and_comes_back(port: int, start_up: StartDevice, secret: Path) -> None:
    device = start_up("--engine", "openssl")
    other = start_up("--engine", "openssl")
    with (
        Pty(*connect(port, device.path, secret, "alice")) as alice,
        Pty(*connect(port, other.path, secret, "bob")) as bob,
    ):
        alice.shows("2 here")
        bob.shows("2 here")
        device.stop()
        alice.type("meanwhile" + ENTER)
        alice.shows("alice meanwhile", "waits for it", "1 on the way")
        start_up("--engine", "openssl", name=device.path.name)
        alice.shows("is back")
        bob.shows("alice meanwhile")
        alice.until(lambda screen: "on the way" not in screen)
        bob.type("and back" + ENTER)
        alice.shows("bob and back")


def test_a_device_that_hangs_does_not_keep_anybody(
    port: int, start_up: StartDevice, secret: Path
) -> None:
    device = start_up("--engine", "openssl")
    backend = device.child("backend")
    with Pty(*connect(port, device.path, secret, "alice")) as alice:
        alice.shows("1 here")
        os.kill(backend, signal.SIGSTOP)
        try:
            alice.type("hello" + ENTER)
            alice.shows("does not answer; what is typed waits for it")
            alice.type(CTRL_C)
            assert alice.process.wait(timeout=5) == 0
            assert alice.modes() == alice.before
        finally:
            os.kill(backend, signal.SIGCONT)


def test_one_to_one(openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    options = "--device", device, "--secret-file", secret, "--host", "127.0.0.1", "--port", 0
    with ours("serve", "--one-to-one", "--name", "host", *options) as server:
        port = int(server.hear().split()[-1])
        with (
            Pty(*connect(port, device, secret, "alice")) as alice,
        ):
            alice.shows("host is here", "2 here")
            alice.type("hello" + ENTER)
            assert server.hear() == "hello"
            server.say("welcome")
            alice.shows("host welcome")
            with Pty(*connect(port, device, secret, "bob")) as bob:
                bob.shows("another talk is under way")
                alice.type("/quit" + ENTER)
                assert alice.wait() == 0
                bob.shows("host is here", "2 here")
                bob.type("my turn" + ENTER)
                assert server.hear() == "my turn"
                assert server.stop() == 0
                assert bob.wait() == 0
                bob.shows("the server says goodbye")


@pytest.mark.parametrize("wire", ["sealed", "classic"])
def test_one_to_one_from_a_terminal(
    wire: str, openssl_device: Service, secret: Path, compile_c: Compile
) -> None:
    device = openssl_device.path
    options = "chat", "serve", "--one-to-one", "--host", "127.0.0.1", "--port", 0
    keys = ("--wire", "classic") if wire == "classic" else ("--secret-file", secret)
    with Pty(*options, "--device", device, *keys, "--name", "host") as server:
        server.shows("ready: 127.0.0.1 port ")
        found = re.search(r"port (\d+)", server.text())
        assert found
        port = int(found[1])
        if wire == "classic":
            program = compile_c(PROJECT / "chat" / "classic" / "chat_client.c")
            client = Talker(program, "127.0.0.1", port, device)
            assert client.hear() == f"connected to 127.0.0.1 port {port}"
            server.shows("keeps nothing secret", "connected to 127.0.0.1:")
        else:
            client = ours(*connect(port, device, secret, "eve")[1:])
            server.shows("eve joined", "host  2 here")
        with client:
            client.say("hello")
            server.shows(" hello")
            server.type("hello yourself" + ENTER)
            assert client.hear() == ("peer: " if wire == "classic" else "") + "hello yourself"
            assert client.end() == 0
        server.shows("peer left" if wire == "classic" else "eve left")
        server.type(CTRL_C)
        assert server.wait() == 0
        assert server.modes() == server.before
