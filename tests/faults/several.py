"""Two back ends for one device: side by side, or behind a balancer (HAProxy)."""

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from cuse_crypto.bench.devices import Device
from cuse_crypto.bench.processes import Process
from cuse_crypto.cli import authority
from cuse_crypto.errors import Failure
from tests.faults import pair

HOST = "127.0.0.1"
PATIENCE = 10.0
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
# Each connection goes to the next server: the least that a front end can expect of a balancer.
CONFIGURATION = """\
defaults
    mode tcp
    balance roundrobin
    option redispatch
    retries 3
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    default-server check inter 100ms fall 1 rise 1
listen crypto
    bind {host}:{port}
    server one {host}:{ports[0]}
    server two {host}:{ports[1]}
"""


class Backends:
    """Two back ends that are killed in turn, each in use by whoever has only the other one left."""

    def __init__(self, listen: list[str], engine: str, *options: str) -> None:
        """``listen``: two addresses; TCP ports of 0 are chosen here."""
        self._command = ["--engine", engine, *options]
        self._running: list[Process] = []
        self.addresses: list[str] = []
        try:
            for address in listen:
                process = self._start(address)
                self._running.append(process)
                self.addresses.append(process.hear().removeprefix("ready: ").split()[0])
        except BaseException:
            self.close()
            raise

    def _start(self, address: str) -> Process:
        return Process([*pair.PROGRAM, "backend", "--listen", address, *self._command])

    def kill(self, which: int) -> None:
        """By SIGKILL, whatever it does."""
        process = self._running[which]
        os.kill(process.pid, signal.SIGKILL)
        process.close()

    def restart(self, which: int) -> None:
        """At the same address; wait until it answers."""
        self._running[which] = process = self._start(self.addresses[which])
        process.hear()

    def close(self) -> None:
        """End them."""
        for process in self._running:
            process.close()


def certificates(folder: Path) -> tuple[Path, Path]:
    """Of an authority in ``folder``: for the back ends, and for the device."""
    authority.found(folder)
    made = [authority.issue(folder, role, role, [HOST], 30) for role in ("backend", "device")]
    return made[0], made[1]


def port_of(address: str) -> int:
    """Of ``tcp:HOST:PORT``."""
    return int(address.rpartition(":")[2])


def why_no_balancer() -> str | None:
    """Why it cannot be tried here; None if it can."""
    return None if shutil.which("haproxy", path=PATH) else "no HAProxy; apt-get install haproxy"


@contextlib.contextmanager
def balancer(folder: Path, ports: list[int]) -> Iterator[int]:
    """HAProxy in front of these ports of this machine; its own port."""
    program = shutil.which("haproxy", path=PATH)
    if program is None:
        raise Failure(str(why_no_balancer()))
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    file = folder / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(host=HOST, port=port, ports=ports))
    with Process([program, "-db", "-q", "-f", file]):
        _wait_for(port)
        yield port


def _wait_for(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, port)):
            return
        if time.monotonic() > end:
            raise Failure("HAProxy does not listen")
        time.sleep(0.01)


@contextlib.contextmanager
def side_by_side(folder: Path, engine: str, node_kind: str) -> Iterator[tuple[Backends, Device]]:
    """Two back ends, and a device that knows both."""
    listen = [f"unix:{folder / name}.sock" for name in ("one", "two")]
    with (
        contextlib.closing(Backends(listen, engine)) as backends,
        pair.front_end(listen, node_kind) as device,
    ):
        yield backends, device


@contextlib.contextmanager
def balanced(folder: Path, engine: str, node_kind: str) -> Iterator[tuple[Backends, Device]]:
    """Two back ends behind a balancer, which passes TLS through."""
    server, client = certificates(folder / "pki")
    listen = [f"tcp:{HOST}:0"] * 2
    with (
        contextlib.closing(Backends(listen, engine, "--pki", str(server))) as backends,
        balancer(folder, [port_of(address) for address in backends.addresses]) as port,
        pair.front_end([f"tcp:{HOST}:{port}"], node_kind, "--pki", str(client)) as device,
    ):
        yield backends, device
