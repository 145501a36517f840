"""The classic wire: our chat and the course's programs, either as server, on the node."""

import contextlib
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cuse_crypto_chat.classic_cipher import PLAIN_WARNING, WARNING
from cuse_crypto_chat.host import FULL
from tests.conftest import PROJECT, Compile, Service, StartDevice
from tests.talkers import OURS, Talker, ours

pytestmark = pytest.mark.node

CLASSIC = PROJECT / "chat" / "classic"
LINES = [f"line {number}: the quick brown fox jumps over the lazy dog" for number in range(20)]
LONG = "long " * 100


def port_of(server: Talker) -> int:
    return int(server.hear().split()[-1])


def talk(one: Talker, heard_by_one: str, other: Talker, heard_by_other: str) -> None:
    """Lines in both directions; each side's words for what it hears."""
    for line in LINES:
        one.say(line)
        assert other.hear() == heard_by_other + line
        other.say(line.upper())
        assert one.hear() == heard_by_one + line.upper()
    one.say(LONG)
    assert other.hear() == heard_by_other + LONG[:254]
    assert other.hear() == heard_by_other + LONG[254:]
    other.say(LONG)
    assert one.hear() == heard_by_one + LONG[:254]
    assert one.hear() == heard_by_one + LONG[254:]


def test_our_client_and_their_server(openssl_device: Service, compile_c: Compile) -> None:
    device = openssl_device.path
    with Talker(compile_c(CLASSIC / "chat_server.c"), 0, device) as server:
        arguments = "--wire", "classic", "--device", device
        port = port_of(server)
        for _ in range(2):  # one after the other
            with ours(
                "connect", "127.0.0.1", port, *arguments, stderr=subprocess.DEVNULL
            ) as client:
                assert server.hear() == "connected to 127.0.0.1"
                talk(client, "", server, "peer: ")
                assert client.end() == 0
                assert server.hear() == "peer left"
        assert server.stop() == 0


def test_their_client_and_our_server(openssl_device: Service, compile_c: Compile) -> None:
    device = openssl_device.path
    arguments = "--wire", "classic", "--device", device, "--host", "127.0.0.1", "--port", 0
    program = compile_c(CLASSIC / "chat_client.c")
    with ours("serve", "--one-to-one", *arguments, stderr=subprocess.DEVNULL) as server:
        port = port_of(server)
        with Talker(program, "127.0.0.1", port, device) as first:
            assert first.hear() == f"connected to 127.0.0.1 port {port}"
            talk(first, "peer: ", server, "")
            with Talker(program, "127.0.0.1", port, device) as second:
                assert second.hear() == f"connected to 127.0.0.1 port {port}"
                second.say("I wait for my turn")
                talk(first, "peer: ", server, "")
                assert first.end() == 0
                assert server.hear() == "I wait for my turn"
                talk(second, "peer: ", server, "")
                assert second.end() == 0
        assert server.stop() == 0


def test_our_room_and_their_clients(openssl_device: Service, compile_c: Compile) -> None:
    device = openssl_device.path
    program = compile_c(CLASSIC / "chat_client.c")
    options = "--wire", "classic", "--device", device
    room = "serve", *options, "--host", "127.0.0.1", "--port", 0, "--max-clients", 3
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ours(*room))
        port = port_of(server)
        assert server.hear().endswith(WARNING)
        clients: list[Talker] = []
        addresses: list[str] = []
        for command in (
            [program, "127.0.0.1", port, device],
            [*OURS, "connect", "127.0.0.1", port, *options],
            [program, "127.0.0.1", port, device],
        ):
            clients.append(stack.enter_context(Talker(*command, stderr=subprocess.DEVNULL)))
            addresses.append(server.hear().split()[1])
        first, second, third = clients
        for client in (first, third):
            assert client.hear().startswith("connected to")
        for newcomer in addresses[1:]:
            assert unstamped(first.hear()) == f"{newcomer} joined"
        assert unstamped(second.hear()) == f"{addresses[2]} joined"

        with Talker(program, "127.0.0.1", port, device) as fourth:
            assert fourth.hear().startswith("connected to")
            assert fourth.hear() == f"peer: {FULL}"
            assert fourth.hear() == "peer left"
        assert "refused" in server.hear()

        for sender, address in zip(clients, addresses, strict=True):
            sender.say("to all \x1b[31m")
            for other in clients:
                if other is not sender:
                    assert unstamped(other.hear()) == f"{address}: to all \\x1b[31m"
        assert third.end() == 0
        for other in (first, second):
            assert unstamped(other.hear()) == f"{addresses[2]} left"
        server.process.send_signal(signal.SIGINT)
        for other in (first, second):
            assert unstamped(other.hear()) == "the server ends. Goodbye."
        assert server.end() == 0


def unstamped(line: str) -> str:
    """A line without who told it and when."""
    found = re.fullmatch(r"(?:peer: )?\[\d\d:\d\d:\d\d\] (.*)", line)
    assert found, line
    return found[1]


def test_keys_from_files(openssl_device: Service, tmp_path: Path) -> None:
    key, iv = os.urandom(16), os.urandom(16)
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "iv").write_bytes(iv)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    options = "--key-file", tmp_path / "key", "--iv-file", tmp_path / "iv"
    received = what_is_sent("secret", "--device", openssl_device.path, *options)
    assert decryptor.update(received) == b"secret\n".ljust(256, b"\0")


def test_plain(tmp_path: Path) -> None:
    none = "--device", tmp_path / "no-device"
    assert what_is_sent("in the clear", "--plain", *none) == b"in the clear\n".ljust(256, b"\0")


def what_is_sent(line: str, *options: object) -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]
        with ours(
            "connect", "127.0.0.1", port, "--wire", "classic", *options, stderr=subprocess.PIPE
        ) as client:
            client.say(line)
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(10)
                received = peer.recv(256, socket.MSG_WAITALL)
                peer.sendall(received)
                peer.shutdown(socket.SHUT_WR)
                assert client.hear() == line
                assert client.end() == 0
            assert client.process.stderr is not None
            warned = PLAIN_WARNING if "--plain" in options else WARNING
            assert warned in client.process.stderr.read()
    return received


def test_messages_in_pieces(openssl_device: Service) -> None:
    options = "--wire", "classic", "--plain", "--host", "127.0.0.1", "--port", 0, "--one-to-one"
    with ours("serve", *options, stderr=subprocess.DEVNULL) as server:
        with socket.create_connection(("127.0.0.1", port_of(server)), 10) as peer:
            message = b"in pieces\n".ljust(256, b"\0")
            for at in range(0, 256, 50):
                peer.sendall(message[at : at + 50])
            assert server.hear() == "in pieces"
            peer.sendall(message + message[:100])
            assert server.hear() == "in pieces"
        assert server.stop() == 0


def test_the_device_goes_and_comes_back(start_up: StartDevice, compile_c: Compile) -> None:
    device = start_up("--engine", "openssl")
    server_device = start_up("--engine", "openssl")
    program = compile_c(CLASSIC / "chat_server.c")
    with Talker(program, 0, server_device.path) as server:
        options = "--wire", "classic", "--device", device.path
        with ours(
            "connect", "127.0.0.1", port_of(server), *options, stderr=subprocess.PIPE
        ) as client:
            assert client.process.stderr is not None
            client.say("before")
            assert server.hear() == "connected to 127.0.0.1"
            assert server.hear() == "peer: before"
            device.stop()
            client.say("meanwhile")
            while "waits for it" not in (said := client.process.stderr.readline()):
                assert said
            start_up("--engine", "openssl", name=device.path.name)
            assert server.hear() == "peer: meanwhile"
            assert "is back" in client.process.stderr.readline()
            assert client.end() == 0
        assert server.stop() == 0
