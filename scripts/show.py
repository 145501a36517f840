"""The main job of ./demo: a device, and two C programs that talk through it.

Between the two stands a recorder, which shows what TCP carries. Everything ends with this program.
"""

import contextlib
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

PROJECT = Path(__file__).resolve().parent.parent
CUSE_CRYPTO = Path(sys.executable).with_name("cuse-crypto")
MESSAGE_SIZE = 256  # of the chat programs
PATIENCE = 20.0
"""Seconds that a program may take for its next line, or to end."""

CONVERSATION = (
    ("client", "server", "Hello from the client. Can you read this?"),
    ("server", "client", "Every word. The device decrypted it for me."),
    ("client", "server", "And neither of us has a line of AES in it."),
    ("server", "client", "Right: open, ioctl, close. Good-bye!"),
)


class Failure(Exception):
    """What went wrong, in one line."""


class Program:
    """A child process that is spoken to, and whose lines are awaited."""

    def __init__(self, name: str, *command: str | Path) -> None:
        self.name = name
        self._heard = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,  # Ctrl-C is for this program, which then ends the others
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def say(self, line: str) -> None:
        """Type one line."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # whoever waits for an answer will notice
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def hear(self, start: str = "") -> str:
        """The rest of the next line, which has to begin with ``start``."""
        assert self.process.stdout is not None
        fd, deadline = self.process.stdout.fileno(), time.monotonic() + PATIENCE
        while b"\n" not in self._heard:
            ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
            part = os.read(fd, 4096) if ready else b""
            if not part:
                raise Failure(f"{self.name} went silent: {self.complaint()}")
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        text = line.decode(errors="replace")
        if not text.startswith(start):
            raise Failure(f'{self.name} said "{text}" where "{start}..." was due')
        return text.removeprefix(start)

    def complaint(self) -> str:
        """The last line of its standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else "it did not say why"

    def end(self) -> None:
        """Wait for its end; Failure unless it succeeds."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} does not end") from None
        if status:
            raise Failure(f"{self.name} ended with status {status}: {self.complaint()}")


class Device(Program):
    """``cuse-crypto up``, run by root."""

    def __init__(self, name: str) -> None:
        up = CUSE_CRYPTO, "up", "--name", name, "--owner", str(os.getuid())
        # Behind sudo there is another process to signal than the one started here: it tells its id.
        # Files that root leaves in somebody's folder would be a nuisance, hence no byte code.
        shell = "env", "PYTHONDONTWRITEBYTECODE=1", "sh", "-c", 'echo $$; exec "$@"', "sh"
        super().__init__("cuse-crypto up", *as_root(*shell, *up))
        self.path = Path("/dev", name)

    @functools.cached_property
    def pid(self) -> str:
        """Of root's process."""
        return self.hear()

    def ready(self) -> str | None:
        """Its line ``ready: ...``; None if the name is taken."""
        try:
            assert self.pid
            return "ready: " + self.hear("ready: ")
        except Failure:
            if " is taken " in self.complaint():
                return None
            raise Failure(f"no device: {self.complaint()}") from None

    def stop(self) -> None:
        """End it as Ctrl-C would; Failure if that leaves anything behind."""
        if self.process.poll() is None:
            kill = as_root("sh", "-c", 'kill "$0"', self.pid)  # the program kill may be missing
            subprocess.run(kill, check=False, stderr=subprocess.DEVNULL)
        self.end()
        if os.path.lexists(self.path):
            raise Failure(f"{self.path} was left behind")

    def __exit__(self, *error: object) -> None:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave the node behind
        with contextlib.suppress(Failure):
            self.stop()


class Recorder:
    """Passes one TCP connection on to ``port``, and keeps what goes by."""

    def __init__(self, port: int) -> None:
        self.seen = {"client": bytearray(), "server": bytearray()}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._run, args=(port,), daemon=True).start()

    def _run(self, port: int) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=self._copy, args=(server, client, "server"), daemon=True).start()
        self._copy(client, server, "client")

    def _copy(self, source: socket.socket, target: socket.socket, name: str) -> None:
        with contextlib.suppress(OSError):  # the programs say what was wrong with the connection
            while part := source.recv(65536):
                self.seen[name] += part
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)


def as_root(*command: str | Path) -> tuple[str | Path, ...]:
    """``command``, by sudo if need be."""
    return command if os.geteuid() == 0 else ("sudo", *command)


def step(text: str) -> None:
    """Something begins."""
    print(f"==> {text}", flush=True)


def tell(text: str) -> None:
    """Something has happened."""
    print(f"    {text}", flush=True)


def start_device(stack: contextlib.ExitStack) -> Device:
    """The first of /dev/cryptodev0, 1, ... that is free."""
    for number in range(32):
        name = f"cryptodev{number}"
        if Path("/dev", name).exists():
            continue
        step(f"cuse-crypto up --name {name}")
        device = Device(name)
        stack.enter_context(device)
        if ready := device.ready():
            tell(ready)
            return device
        tell("taken meanwhile: the next one")
    raise Failure("/dev/cryptodev0 to 31 are all taken")


def compile_programs(folder: Path) -> None:
    """chat_server and chat_client, into ``folder``."""
    step("two C programs, compiled: chat/classic/chat_server.c and chat_client.c")
    asked = subprocess.run([CUSE_CRYPTO, "include-dir"], check=True, stdout=subprocess.PIPE)
    include = asked.stdout.decode().strip()
    settings = {**os.environ, "TMPDIR": str(folder)}  # an interrupted compiler leaves files
    for name in ("chat_server", "chat_client"):
        source = PROJECT / "chat" / "classic" / f"{name}.c"
        cc = "cc", "-Wall", "-O2", "-I", include, "-o", folder / name, source
        if subprocess.run(cc, env=settings, check=False).returncode:
            raise Failure(f"cc does not compile {source}")


def chat(folder: Path, device: Path, began: float) -> None:
    """Both programs talk; Failure unless each reads what the other wrote, and TCP does not."""
    step(f"chat_server and chat_client with {device}, TCP between them")
    with Program("the server", folder / "chat_server", "0", device) as server:
        port = int(server.hear("listening on port "))
        recorder = Recorder(port)
        tell(f"the server listens on port {port}, a recorder before it on port {recorder.port}")
        address = "127.0.0.1", str(recorder.port)
        with Program("the client", folder / "chat_client", *address, device) as client:
            client.hear("connected to ")
            server.hear("connected to ")
            tell(f"the chat begins, {time.time() - began:.0f} s after the start")
            converse({"client": client, "server": server}, recorder)
            part(client, server)


def converse(programs: dict[str, Program], recorder: Recorder) -> None:
    """Each message is seen at three places: where it is typed, on TCP, where it is read."""
    for speaker, listener, text in CONVERSATION:
        seen = recorder.seen[speaker]
        start = len(seen)
        programs[speaker].say(text)
        heard = programs[listener].hear("peer: ")
        tell(f"{speaker} types   {text}")
        tell(f"TCP carries    {seen[start : start + 24].hex(' ')} ...")
        tell(f"{listener} prints  peer: {heard}")
        if heard != text:
            raise Failure(f"the {listener} read something else than the {speaker} wrote")
        if len(seen) - start != MESSAGE_SIZE or text.encode() in seen:
            raise Failure("what TCP carried is not one encrypted message")


def part(client: Program, server: Program) -> None:
    """The client hangs up, the server is told to end."""
    step("the end")
    assert client.process.stdin is not None
    client.process.stdin.close()
    for program in (client, server):
        program.hear("peer left")
    client.end()
    server.process.terminate()
    server.end()


def main() -> None:
    """``show.py [TIME]``: TIME is when the user's waiting began, in seconds since 1970."""
    began = float(sys.argv[1]) if len(sys.argv) > 1 else time.time()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuse-crypto-demo-")))
        device = start_device(stack)
        compile_programs(folder)
        chat(folder, device.path, began)
        device.stop()
    tell(f"all programs have ended, {device.path} is removed")
    print(f"it works: {len(CONVERSATION)} messages went through {device.path}, unreadable on TCP")
    up = " ".join(map(str, as_root(".venv/bin/cuse-crypto", "up")))
    print(f"next: keep a device with {up!r}, read README.md, test with ./check")


def on_signal(number: int, _: object) -> None:
    """Leave by the way that cleans up."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for ending in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, on_signal)
    try:
        main()
    except Failure as failure:
        sys.exit(f"demo: {failure}")
    except BrokenPipeError:  # as in ./demo | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
