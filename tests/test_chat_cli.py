"""``cuse-crypto chat`` in pipes: lines in and out, and one clear line for all that can be wrong."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Service, StartDevice, start
from tests.talkers import OURS, ours
from tests.test_cli import one_line, run

SECRET = "correct horse battery staple"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
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


def connect(port: int, device: Path, secret: Path, *options: str) -> list[str]:
    where = ["connect", "127.0.0.1", str(port), "--device", str(device)]
    return [*where, "--secret-file", str(secret), *options]


@pytest.mark.parametrize("command", [[], ["serve"], ["connect"], ["secret"]])
def test_help(command: list[str]) -> None:
    done = run("chat", *command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: cuse-crypto chat" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["connect"],
        ["connect", "localhost", "0"],
        ["connect", "localhost", "--wire", "none"],
        ["connect", "localhost", "--plain"],
        ["connect", "localhost", "--key-file", "key"],
        ["connect", "localhost", "--wire", "classic", "--plain", "--iv-file", "iv"],
        ["connect", "localhost", "--wire", "classic", "--secret-file", "secret"],
        ["serve", "--max-clients", "0"],
        ["serve", "--secret-file", "secret"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run("chat", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_a_secret_is_made(tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        assert run("chat", "secret", str(file)).returncode == 0
        assert file.stat().st_mode & 0o777 == 0o600
        assert len(file.read_text()) == 44
    assert files[0].read_text() != files[1].read_text()
    assert "exists" in one_line(run("chat", "secret", str(files[0])))
    assert "No such file" in one_line(run("chat", "secret", str(tmp_path / "none" / "here")))


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (SECRET, 0o644, "can be read by others; chmod 600"),
        ("short", 0o600, "a secret has at least 12 bytes"),
        ("x" * 5000, 0o600, "more than 4096 bytes"),
        (None, 0, "No such file or directory"),
    ],
)
def test_secrets_that_are_refused(
    content: str | None, mode: int, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    assert message in one_line(run("chat", *connect(1, Path("/dev/none"), file)))


def test_no_terminal_to_ask_on() -> None:
    done = run("chat", "connect", "localhost", start_new_session=True)
    assert "use --secret-file" in one_line(done)


@pytest.mark.parametrize("content", [b"", bytes(15), bytes(17), None])
def test_key_files_that_are_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    if content is not None:
        file.write_bytes(content)
    done = run("chat", "connect", "localhost", "--wire", "classic", "--key-file", str(file))
    assert "--key-file" in one_line(done)


def test_no_device(secret: Path) -> None:
    for options in (["--secret-file", str(secret)], ["--wire", "classic"]):
        done = run("chat", "connect", "localhost", "--device", "/dev/no-such-crypto", *options)
        assert "start one with `cuse-crypto up --name no-such-crypto`" in one_line(done)


def test_no_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("chat", "serve", "--host", "127.0.0.1", "--port", port)
        assert "choose another --port" in one_line(done)
    assert "--host" in one_line(run("chat", "serve", "--host", "192.0.2.1", "--port", "0"))


def test_one_port_for_both_kinds_of_address() -> None:
    service = start("chat", "serve", "--port", "0")
    port = int(service.ready.split()[-1])
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as sock:
            sock.connect((address, port))
    assert service.stop() == 0
    again = start("chat", "serve", "--port", str(port))
    assert again.stop() == 0, "the address is used again at once"


@pytest.mark.node
def test_nobody_is_there(openssl_device: Service, secret: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    device = openssl_device.path
    for options in (connect(port, device, secret), [*CLASSIC, str(port), "--device", str(device)]):
        line = one_line_of(options)
        assert f"127.0.0.1 port {port}: connection refused; is " in line


@pytest.mark.node
@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 100, ".."])
def test_hosts_that_are_none(host: str, openssl_device: Service) -> None:
    device = str(openssl_device.path)
    line = one_line_of(["connect", host, "--wire", "classic", "--device", device])
    assert f"{host} port 35001: " in line
    assert "; is a chat server running there" in line


CLASSIC = ["connect", "127.0.0.1", "--wire", "classic"]


def one_line_of(options: list[str]) -> str:
    """What it fails with, after what it warns of."""
    done = run("chat", *options)
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert all(line.startswith("cuse-crypto chat: ") for line in lines[:-1])
    assert lines[-1].startswith("cuse-crypto: ")
    return lines[-1]


@pytest.mark.node
def test_somebody_else_is_there(openssl_device: Service, secret: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with ours(*connect(port, openssl_device.path, secret), stderr=subprocess.PIPE) as client:
            peer, _ = other.accept()
            with peer:
                peer.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                assert client.process.stderr is not None
                assert "speaks something else" in client.process.stderr.read()
                assert client.end() == 1


@pytest.mark.node
def test_lines_in_and_out(port: int, openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    lines = [f"line {number}\t\x1b" for number in range(500)]
    with ours(*connect(port, device, secret, "--name", "reader")) as reader:
        with ours(*connect(port, device, secret, "--json")) as writer:
            assert json.loads(writer.hear())["who"] == "reader"
            for line in lines:
                writer.say(line)
            assert writer.end() == 0
        for number in range(len(lines)):
            assert reader.hear() == f"line {number}\t\\x1b"
        assert reader.end() == 0


@pytest.mark.node
def test_json(port: int, openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    with ours(*connect(port, device, secret, "--name", "reader", "--json")) as reader:
        with ours(*connect(port, device, secret, "--name", "writer")) as writer:
            joined = json.loads(reader.hear())
            writer.say("a line")
            said = json.loads(reader.hear())
            assert writer.end() == 0
        left = json.loads(reader.hear())
        assert [one["event"] for one in (joined, said, left)] == ["joined", "said", "left"]
        assert {one["who"] for one in (joined, said, left)} == {"writer"}
        assert said["text"] == "a line"
        assert abs(time.time() - said["sent"]) < 60
        assert reader.end() == 0


@pytest.mark.node
def test_after_the_end_of_input(port: int, openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    with ours(*connect(port, device, secret, "--json", "--stay")) as listener:
        assert listener.process.stdin is not None
        listener.process.stdin.close()
        with ours(*connect(port, device, secret, "--name", "writer", "--json")) as writer:
            assert json.loads(writer.hear())["event"] == "joined"
            writer.say("still there?")
            assert writer.end() == 0
        heard = [json.loads(listener.hear()) for _ in range(3)]
        assert [one["event"] for one in heard] == ["joined", "said", "left"]
        listener.process.send_signal(signal.SIGINT)
        assert listener.process.wait(timeout=5) == 0
    done = run("chat", *connect(port, device, secret), stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "cuse-crypto chat: nobody else is here\n"


@pytest.mark.node
def test_ctrl_c(port: int, openssl_device: Service, secret: Path) -> None:
    with ours(*connect(port, openssl_device.path, secret, "--json", "--name", "one")) as one:
        with ours(*connect(port, openssl_device.path, secret)) as other:
            assert json.loads(one.hear())["event"] == "joined"
            other.process.send_signal(signal.SIGINT)
            assert other.process.wait(timeout=5) == 0
        assert json.loads(one.hear())["event"] == "left"
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(timeout=5) == 0


@pytest.mark.node
def test_wrong_secret(port: int, openssl_device: Service, secret: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("another horse battery staple")
    other.chmod(0o600)
    device = openssl_device.path
    with ours(*connect(port, device, secret), stderr=subprocess.PIPE) as right:
        with ours(*connect(port, device, secret, "--json")) as witness:
            assert json.loads(witness.hear())["event"] == "joined"
            for options in (
                connect(port, device, other),
                connect(port, device, secret, "--room=x"),
            ):
                with ours(*options, stderr=subprocess.PIPE) as wrong:
                    assert wrong.process.stderr is not None
                    said = wrong.process.stderr.read().splitlines()
                    assert "compare --secret-file and --room" in said[-1]
                    assert wrong.end() == 1
            assert right.process.stderr is not None
            assert "another secret" in right.process.stderr.readline()
            assert witness.end() == 0
        assert right.end() == 0


@pytest.mark.node
def test_nobody_reads_what_comes(port: int, openssl_device: Service, secret: Path) -> None:
    device = openssl_device.path
    read, write = os.pipe()
    command = connect(port, device, secret)
    process = subprocess.Popen(
        [*OURS, *command],
        stdin=subprocess.PIPE,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    os.close(read)
    with process, ours(*connect(port, device, secret, "--json")) as other:
        assert json.loads(other.hear())["event"] == "joined"
        other.say("for nobody")
        assert process.wait(timeout=20) == 1
        assert process.stderr is not None
        assert process.stderr.read().splitlines() == [
            "cuse-crypto: nobody reads standard output any more"
        ]
        assert json.loads(other.hear())["event"] == "cut"
        assert other.end() == 0


@pytest.mark.node
def test_the_device_goes_and_comes_back(port: int, start_up: StartDevice, secret: Path) -> None:
    device = start_up("--engine", "openssl")
    other = start_up("--engine", "openssl")
    with (
        ours(*connect(port, other.path, secret, "--name", "reader")) as reader,
        ours(*connect(port, device.path, secret, "--json")) as writer,
    ):
        assert json.loads(writer.hear())["who"] == "reader"
        writer.say("before")
        assert reader.hear() == "before"
        device.stop()
        writer.say("meanwhile")
        assert "what is typed waits for it" in json.loads(writer.hear())["text"]
        start_up("--engine", "openssl", name=device.path.name)
        assert reader.hear() == "meanwhile"
        assert "is back" in json.loads(writer.hear())["text"]
        assert writer.end() == 0
        assert reader.end() == 0
