"""The course's kind of chat: a C server, C and Python clients; TCP carries ciphertext."""

import socket
import sys
import threading

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.conftest import PROJECT, Compile, Service
from tests.talkers import Talker

pytestmark = pytest.mark.node

CLASSIC = PROJECT / "chat" / "classic"
LINES = [f"line {number}: the quick brown fox jumps over the lazy dog" for number in range(20)]


class Recorder:
    """Stands between client and server, and keeps what goes by, by direction."""

    def __init__(self, port: int) -> None:
        self.recorded = {"client": b"", "server": b""}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=[port])
        self._thread.start()

    def _run(self, port: int) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=self._copy, args=[server, client, "server"])
            back.start()
            self._copy(client, server, "client")
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, who: str) -> None:
        while part := source.recv(65536):
            self.recorded[who] += part
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        self._thread.join(timeout=60)
        self._listener.close()


@pytest.mark.parametrize("language", ["C", "Python"])
def test_chat(language: str, openssl_device: Service, compile_c: Compile) -> None:
    device = openssl_device.path
    server = Talker(compile_c(CLASSIC / "chat_server.c"), 0, device)
    port = server.hear().removeprefix("listening on port ")
    recorder = Recorder(int(port))
    program: list[object] = [sys.executable, CLASSIC / "chat_client.py"]
    if language == "C":
        program = [compile_c(CLASSIC / "chat_client.c")]
    client = Talker(*program, "127.0.0.1", recorder.port, device)
    assert client.hear() == f"connected to 127.0.0.1 port {recorder.port}"
    assert server.hear().startswith("connected to 127.0.0.1")
    for line in LINES:
        client.say(line)
        assert server.hear() == f"peer: {line}"
        server.say(line.upper())
        assert client.hear() == f"peer: {line.upper()}"
    assert client.end() == 0
    assert server.hear() == "peer left"
    recorder.end()
    server.process.terminate()
    assert server.end() == 0

    for who, said in (("client", LINES), ("server", [line.upper() for line in LINES])):
        recorded = recorder.recorded[who]
        assert len(recorded) == 256 * len(LINES)
        for line, at in zip(said, range(0, len(recorded), 256), strict=True):
            message = recorded[at : at + 256]
            assert line.encode() not in message
            decryptor = Cipher(algorithms.AES(bytes(16)), modes.CBC(bytes(16))).decryptor()
            assert decryptor.update(message) == f"{line}\n".encode().ljust(256, b"\0")
