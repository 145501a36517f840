"""What the tests share: C programs compiled once, and a device that really serves."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import cuse_crypto

HERE = Path(__file__).parent
PROJECT = HERE.parent
INCLUDE = Path(cuse_crypto.__file__).parent / "include"
Compile = Callable[..., Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--node", choices=["cuse", "mounted"], default="mounted", help="kind of the tested node"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a node where none can be made, with doctor's reason."""
    from cuse_crypto.fuse.cuse_node import why_no_cuse
    from cuse_crypto.fuse.mounted_node import why_no_mount

    reason = why_no_cuse() if config.getoption("--node") == "cuse" else why_no_mount()
    if reason:
        for item in items:
            if item.get_closest_marker("node"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def node_kind(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--node"))


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """``compile_c(source, *flags)``: the program; skips where there is no compiler for it."""
    folder = tmp_path_factory.mktemp("programs")
    programs: dict[tuple[Path, ...], Path] = {}

    def compile_one(source: Path, *flags: str) -> Path:
        if shutil.which("cc") is None:
            pytest.skip("no C compiler")
        key = (source, *map(Path, flags))
        if key not in programs:
            program = folder / f"{source.stem}{len(programs)}"
            warnings = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
            command = ["cc", *warnings, f"-I{INCLUDE}", *flags, str(source), "-o", str(program)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode and "-m32" in flags and "32" in done.stderr:
                pytest.skip("no 32-bit C library")
            assert not done.returncode, done.stderr
            programs[key] = program
        return programs[key]

    return compile_one


def children(parent: int) -> list[int]:
    """The pids of the processes that ``parent`` started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{parent}\n" in status.read_text(errors="replace"):
                found.append(int(status.parent.name))
    return found


@dataclass
class Service:
    """A running ``cuse-crypto`` command."""

    process: subprocess.Popen[str]
    ready: str
    path: Path
    _said: str = ""

    def child(self, role: str) -> int:
        """The pid of the ``backend`` or ``device`` process of an ``up``."""
        for pid in children(self.process.pid):
            if f"cuse-crypto {role} " in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                return pid
        raise AssertionError(f"no {role} process")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            # Its children too: what they might still say is waited for below.
            for pid in [*children(self.process.pid), self.process.pid]:
                os.kill(pid, signal.SIGKILL)
            raise
        finally:
            assert self.process.stdout
            assert self.process.stderr
            if not self.process.stderr.closed:
                self._said += self.process.stderr.read()
            self.process.stdout.close()
            self.process.stderr.close()

    def said(self) -> str:
        """What it wrote to standard error until it was stopped."""
        return self._said


def start(*arguments: str, path: Path = Path("/")) -> Service:
    """Start a command and wait for its line ``ready: ...``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cuse_crypto", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = process.stdout.readline().strip()
    service = Service(process, ready, path)
    if not ready.startswith("ready: "):
        assert process.stderr is not None
        error = process.stderr.read()
        service.stop()
        pytest.fail(f"cuse-crypto {' '.join(arguments)}: {error}")
    return service


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until ``condition`` holds; fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.005)


_numbers = itertools.count()


def fresh_name() -> str:
    """A name that nothing else has had."""
    return f"cryptotest-{os.getpid()}-{next(_numbers)}"


StartDevice = Callable[..., Service]


@pytest.fixture(scope="session")
def start_up(node_kind: str) -> Iterator[StartDevice]:
    """``start_up(*options)``: a ``cuse-crypto up`` on a fresh node, ended after the tests."""
    services: list[Service] = []

    def start_one(*options: str, name: str = "") -> Service:
        name = name or fresh_name()
        path = Path("/dev") / name
        service = start("up", "--name", name, "--node", node_kind, *options, path=path)
        services.append(service)
        return service

    yield start_one
    for service in services:
        service.stop()
    for service in services:
        assert service.path.name not in os.listdir("/dev")


@pytest.fixture(scope="session")
def openssl_device(start_up: StartDevice) -> Service:
    """One device that computes in OpenSSL, for all tests that leave it as it was."""
    return start_up("--engine", "openssl")


@pytest.fixture(scope="session")
def null_device(start_up: StartDevice) -> Service:
    """One device that copies."""
    return start_up("--engine", "null")
