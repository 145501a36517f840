"""The course's kind of chat: C server, C and Python clients, through the node; TCP is ciphertext."""

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.conftest import PROJECT, Compile, Service

pytestmark = pytest.mark.node

CLASSIC = PROJECT / "chat" / "classic"
LINES = [f"line {number}: the quick brown fox jumps over the lazy dog" for number in range(20)]


class Talker:
    """A program whose lines are read and written here."""

    def __init__(self, *command: object) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.mark.parametrize("language", ["C", "Python"])
def test_chat(
    language: str, openssl_device: Service, compile_c: Compile, tmp_path: Path
) -> None:
    device = openssl_device.path
    server = Talker(compile_c(CLASSIC / "chat_server.c"), 0, device)
    port = server.hear().removeprefix("listening on port ")
    relay = Talker(sys.executable, PROJECT / "scripts" / "relay.py", port, tmp_path)
    relayed = relay.hear().removeprefix("relaying on port ")
    program = {
        "C": [compile_c(CLASSIC / "chat_client.c")],
        "Python": [sys.executable, CLASSIC / "chat_client.py"],
    }[language]
    client = Talker(*program, "127.0.0.1", relayed, device)
    assert client.hear() == f"connected to 127.0.0.1 port {relayed}"
    assert server.hear().startswith("connected to 127.0.0.1")
    for line in LINES:
        client.say(line)
        assert server.hear() == f"peer: {line}"
        server.say(line.upper())
        assert client.hear() == f"peer: {line.upper()}"
    assert client.end() == 0
    assert server.hear() == "peer left"
    assert relay.end() == 0
    server.process.terminate()
    assert server.end() == 0

    for who, said in (("client", LINES), ("server", [line.upper() for line in LINES])):
        recorded = (tmp_path / f"from-{who}").read_bytes()
        assert len(recorded) == 256 * len(LINES)
        for line, at in zip(said, range(0, len(recorded), 256), strict=True):
            message = recorded[at : at + 256]
            assert line.encode() not in message
            decryptor = Cipher(algorithms.AES(bytes(16)), modes.CBC(bytes(16))).decryptor()
            assert decryptor.update(message) == f"{line}\n".encode().ljust(256, b"\0")
