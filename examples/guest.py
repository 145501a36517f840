"""Two virtual machines whose /dev/cryptodev0 is served by this machine's back end.

``python -m examples.guest``, as root: a stock QEMU with a Debian kernel, emulated, joins a port of
each guest to the back end's Unix socket. What docs/guest.md tells is done here, and checked. What
runs in the guests is examples/inside.py.
"""

import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import cuse_crypto
from cuse_crypto.bench.processes import Process
from cuse_crypto.errors import Failure
from tests import virtual_machine

PROJECT = Path(__file__).resolve().parent.parent
PORT_NAME = "cuse-crypto"
HOST_AS_SEEN = "10.0.2.2"
"""Of QEMU's own network: this machine's loopback."""
BOOT, ANSWER = 240.0, 120.0
"""Seconds; emulation is slow."""
KEY, IV = bytes(range(16)), bytes(range(16, 32))
TEXT = b"what the guest gives its /dev/cryptodev0, the host encrypts....."
LINES = ["hello from the guest", "it is encrypted by the host", "on its way it cannot be read"]
GOODBYE = "goodbye"
NO_SUCH_HANDLE = 116
MESSAGE = 256


class Guest:
    """A virtual machine that does what it is told, a line of JSON each way."""

    def __init__(self, name: str, backend: Path, talk: socket.socket) -> None:
        self.name = name
        self._talk = talk
        self._failure = ""
        self._thread = threading.Thread(target=self._run, args=[backend], daemon=True)
        self._thread.start()
        self._talk.settimeout(BOOT)
        try:
            sock, _ = talk.accept()
        except TimeoutError:
            raise Failure(f"the guest {name} has not come up; {self._failure}") from None
        sock.settimeout(ANSWER)
        self._sock = sock
        self._lines = sock.makefile("rw")
        say(f"{name}: is up")

    def _run(self, backend: Path) -> None:
        port = self._talk.getsockname()[1]
        command = [sys.executable, "-m", "examples.inside", HOST_AS_SEEN, str(port)]
        try:
            done = virtual_machine.run(
                command,
                timeout=BOOT + 4 * ANSWER,
                cwd=PROJECT,
                cpus=1,
                qemu_options=qemu_options(backend),
            )
            self._failure = done.stdout if done.returncode else ""
        except virtual_machine.VirtualMachineError as error:
            self._failure = str(error)

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """Have it done; what came of it."""
        self.tell(what, **details)
        return self.hear()

    def tell(self, what: str, **details: Any) -> None:
        """Have it done, and go on meanwhile."""
        print(json.dumps({"what": what, **details}), file=self._lines, flush=True)

    def hear(self) -> dict[str, Any]:
        """What came of it. Failure if the guest is gone."""
        line = ""
        with contextlib.suppress(OSError):
            line = self._lines.readline()
        if not line:
            self._thread.join(10)
            raise Failure(f"the guest {self.name} does not answer: {self._failure[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Have it power off; Failure with what it said, if it had not done well."""
        self.tell("end")
        self.close()
        if self._thread.is_alive() or self._failure:
            raise Failure(f"the guest {self.name} has not ended well: {self._failure[-2000:]}")

    def close(self) -> None:
        """Let go of it: it powers off when it hears no more. Again is harmless."""
        with contextlib.suppress(OSError):
            self._lines.close()
        self._sock.close()
        self._thread.join(ANSWER)


def qemu_options(backend: Path) -> list[str]:
    """What joins a port of the guest to the back end's socket; the rest is a network."""
    return [
        *("-chardev", f"socket,id=crypto,path={backend},reconnect=1"),
        *("-device", "virtio-serial-pci"),
        *("-device", f"virtserialport,chardev=crypto,name={PORT_NAME}"),
        *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
    ]


class Recorder:
    """Between the guest's chat and the host's; keeps what the guest sends."""

    def __init__(self, target: int) -> None:
        self.recorded = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=[target], daemon=True)
        self._thread.start()

    def _run(self, target: int) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", target)) as server:
                threading.Thread(target=self._back, args=[server, client], daemon=True).start()
                while part := client.recv(65536):
                    self.recorded += part
                    server.sendall(part)

    @staticmethod
    def _back(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := server.recv(65536):
                client.sendall(part)

    def close(self) -> None:
        """End it; whoever waits for a connection, too."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def say(text: str) -> None:
    """One line of progress, at once."""
    print(f"    {text}", flush=True)


def check(right: bool, what: str) -> None:
    """Say what holds; Failure if it does not."""
    if not right:
        raise Failure(f"it does not hold that {what}")
    say(f"seen: {what}")


def compiled(folder: Path, name: str) -> Path:
    """A program of the course's chat."""
    if shutil.which("cc") is None:
        raise Failure("no C compiler; apt-get install gcc libc6-dev")
    include = Path(cuse_crypto.__file__).parent / "include"
    source = PROJECT / "chat" / "classic" / f"{name}.c"
    subprocess.run(["cc", f"-I{include}", source, "-o", folder / name], check=True)
    return folder / name


def start_backend(path: Path) -> Process:
    """The host's back end, when it is ready; who runs QEMU (root) may connect."""
    words = ["backend", "--listen", f"unix:{path}", "--engine", "openssl"]
    process = Process([sys.executable, "-m", "cuse_crypto", *words])
    process.hear()
    return process


@contextlib.contextmanager
def host_device(path: Path) -> Iterator[str]:
    """A node of the host's, from the same back end."""
    name = f"cryptohost-{path.parent.name.replace('_', '-')}"
    words = ["device", "--backend", f"unix:{path}", "--name", name]
    with Process([sys.executable, "-m", "cuse_crypto", *words]) as process:
        process.hear()
        yield f"/dev/{name}"


def boot(names: Sequence[str], backend: Path) -> list[Guest]:
    """All of them at once."""
    guests: dict[str, Guest] = {}
    failures: list[Failure] = []

    def one(name: str) -> None:
        try:
            with socket.create_server(("127.0.0.1", 0)) as talk:
                guests[name] = Guest(name, backend, talk)
        except Failure as failure:
            failures.append(failure)

    threads = [threading.Thread(target=one, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [guests[name] for name in names]


def encrypted(data: bytes, key: bytes = KEY, iv: bytes = IV) -> bytes:
    """By OpenSSL, here."""
    return Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor().update(data)


def talk_with(guest: Guest, server: Process, client: Path, port: int) -> None:
    """The guest's C chat and the host's; TCP carries ciphertext."""
    recorder = Recorder(port)
    try:
        guest.tell("chat", program=str(client), port=recorder.port, lines=LINES, last=GOODBYE)
        heard = [server.hear() for _ in range(1 + len(LINES))]
        for line in [*(line.upper() for line in LINES), GOODBYE]:
            server.say(line)
        answer = guest.hear()
        check(heard[1:] == [f"peer: {line}" for line in LINES], "the host reads the guest's chat")
        wanted = [f"peer: {line}" for line in [*(line.upper() for line in LINES), GOODBYE]]
        check(answer["heard"] == wanted, "the guest reads the host's chat")
    finally:
        recorder.close()
    plain = b"".join(f"{line}\n".encode().ljust(MESSAGE, b"\0") for line in LINES)
    parts = [plain[at : at + MESSAGE] for at in range(0, len(plain), MESSAGE)]
    wire = b"".join(encrypted(part, bytes(16), bytes(16)) for part in parts)
    check(recorder.recorded == wire, "on the network there is AES, byte for byte")


def show(folder: Path) -> None:
    """All of it."""
    backend = folder / "backend.sock"
    chat_server, chat_client = (compiled(folder, f"chat_{who}") for who in ("server", "client"))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(contextlib.closing(start_backend(backend)))
        node = stack.enter_context(host_device(backend))
        say(f"the host's back end, and {node}; two guests are booting")
        one, two = boot(("one", "two"), backend)
        for guest in (one, two):
            stack.callback(guest.close)
        say(f"{time.monotonic() - began:.0f} s")
        opened = one.ask("device", key=KEY.hex(), iv=IV.hex(), text=TEXT.hex())
        check(opened["kind"] == "character device", "/dev/cryptodev0 of a guest is a cuse device")
        check(bytes.fromhex(opened["secret"]) == encrypted(TEXT), "the host's OpenSSL serves it")
        tried = two.ask("try", ses=opened["ses"])
        check(
            tried["seen"] == 0 and set(tried["statuses"]) == {NO_SUCH_HANDLE},
            "a guest that makes up its messages finds no handle of another one",
        )
        own = two.ask("device", key=KEY[::-1].hex(), iv=IV.hex(), text=TEXT.hex())
        check(
            bytes.fromhex(own["secret"]) == encrypted(TEXT, KEY[::-1]),
            "the next front end on the same port is served, with handles of its own",
        )
        digest = two.ask("hash", text=TEXT.hex())["digest"]
        check(digest == hashlib.sha256(TEXT).hexdigest(), "a hash in two steps is right")
        killed = two.ask("kill", key=KEY.hex(), iv=IV.hex(), text=TEXT.hex())
        check(
            bytes.fromhex(killed["secret"]) == encrypted(TEXT),
            "what a killed front end has left in the port does not confuse the next one",
        )
        server = stack.enter_context(Process([chat_server, "0", node]))
        port = int(server.hear().removeprefix("listening on port "))
        talk_with(one, server, chat_client, port)
        running.close()
        stack.enter_context(contextlib.closing(start_backend(backend)))
        again = one.ask("again", iv=IV.hex(), text=TEXT.hex())
        check(
            again["secret"] == opened["secret"],
            "the guest's session goes on when the host's back end has been replaced",
        )
        for guest in (one, two):
            guest.end()
    say(f"{time.monotonic() - began:.0f} s in all")


def main() -> None:
    """Run it; exit status 1 with a reason if something does not hold."""
    try:
        if reason := virtual_machine.why_not():
            raise Failure(reason)
        virtual_machine.prepare()
        with tempfile.TemporaryDirectory(prefix="cuse-crypto-guest-") as folder:
            # The back end becomes another user.
            Path(folder).chmod(0o755)
            show(Path(folder))
    except Failure as failure:
        sys.exit(f"guest: {failure}")


if __name__ == "__main__":
    main()
