"""What runs in a guest of examples/guest.py: ``inside HOST PORT`` does what it is told there."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from cuse_crypto import CryptoDevice
from cuse_crypto.client.cipher import CipherSession
from cuse_crypto.frontend.meeting import meet
from cuse_crypto.wire import messages
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.messages import BY_NAME, Crypt, Handle, Session

NODE = "/dev/cryptodev0"
PORT = "virtio:cuse-crypto"
SETUP = """\
modprobe -a virtio_console virtio_net cuse
busybox ip link set dev eth0 up
busybox ip addr add 10.0.2.15/24 dev eth0
"""
HANDLES = 8
MUCH = 1 << 20


class Inside:
    """Methods are named after what one can be told."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._session: CipherSession | None = None

    def device(self, key: str, iv: str, text: str) -> dict[str, Any]:
        """Serve the node from the host's back end, and encrypt."""
        self._serve()
        is_device = stat.S_ISCHR(os.stat(NODE).st_mode)
        opened = self._stack.enter_context(CryptoDevice(NODE))
        self._session = opened.cipher("aes-cbc", bytes.fromhex(key))
        return {
            "kind": "character device" if is_device else "another kind",
            "ses": self._session.id,
            **self.again(iv, text),
        }

    def kill(self, key: str, iv: str, text: str) -> dict[str, Any]:
        """SIGKILL to the front end while it has much to do; what the next one makes of it."""
        began = threading.Event()
        working = threading.Thread(target=self._work, args=[began])
        working.start()
        began.wait()
        self._device.kill()
        working.join()
        self._session = None
        self._stack.close()
        return self.device(key, iv, text)

    def _work(self, began: threading.Event) -> None:
        with contextlib.suppress(OSError), CryptoDevice(NODE) as opened:
            session = opened.cipher("aes-cbc", bytes(16))
            while True:
                session.encrypt(bytes(MUCH), iv=bytes(16))
                began.set()

    def _serve(self) -> None:
        words = ["device", "--backend", PORT, "--node", "cuse", "--patience", "30"]
        self._device = device = subprocess.Popen(
            [sys.executable, "-m", "cuse_crypto", *words], stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(device.wait, 60)
        self._stack.callback(device.terminate)
        assert device.stdout
        ready = device.stdout.readline()
        if not ready.startswith("ready: "):
            raise OSError("the device has not come up")

    def again(self, iv: str, text: str) -> dict[str, Any]:
        """Encrypt once more."""
        assert self._session
        secret = self._session.encrypt(bytes.fromhex(text), iv=bytes.fromhex(iv))
        return {"secret": bytes(secret).hex()}

    def hash(self, text: str) -> dict[str, Any]:
        """In two steps."""
        data = bytes.fromhex(text)
        with CryptoDevice(NODE) as opened:
            state = opened.hash("sha256", data[:20])
            state.update(data[20:])
            return {"digest": state.hexdigest()}

    def chat(self, program: str, port: int, lines: list[str], last: str) -> dict[str, Any]:
        """The course's client in C: say the lines, and listen until the ``last`` one."""
        command = [program, sys.argv[1], str(port), NODE]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdin
            assert client.stdout
            client.stdout.readline()
            for line in lines:
                print(line, file=client.stdin, flush=True)
            heard: list[str] = []
            while not heard or heard[-1] not in ("", f"peer: {last}"):
                heard.append(client.stdout.readline().rstrip("\n"))
            client.stdin.close()
            return {"heard": heard}

    def try_(self, ses: int) -> dict[str, Any]:
        """Say to the back end whatever might reach the session ``ses`` of another guest."""
        connection = Address.parse(PORT).connect(10, 60)
        guest = os.urandom(16)
        meet(connection, guest, 0, None)
        buffer = memoryview(bytearray(4096))
        statuses, seen = [], 0
        for handle in range(1, HANDLES):
            for name, body, readable, writable in (
                ("CRYPT", Crypt(handle, ses, 0, 0), (16, 16), (16, 0, 0)),
                ("DESCRIBE", Session(handle, ses), (), (64, 64)),
                ("END_SESSION", Session(handle, ses), (), ()),
            ):
                row = BY_NAME[name]
                length = messages.pack_request(buffer, row, handle, body, readable, writable)
                connection.send(buffer[:length])
                received = connection.receive(buffer)
                assert received is not None
                statuses.append(messages.unpack_reply(received, row, handle, writable).status)
            row = BY_NAME["RELEASE"]
            length = messages.pack_request(buffer, row, handle, Handle(handle))
            connection.send(buffer[:length])
            assert connection.receive(buffer) is not None
        seen = sum(not status for status in statuses)
        connection.close()
        return {"statuses": statuses, "seen": seen}

    def end(self) -> None:
        """Close all."""
        if self._session:
            self._session.close()
        self._stack.close()


def main() -> None:
    """Set up, and obey until the end."""
    subprocess.run(["sh", "-ec", SETUP], check=True)
    inside = Inside()
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 30) as sock:
        sock.settimeout(None)
        with sock.makefile("rw") as lines:
            for line in lines:
                told = json.loads(line)
                what = told.pop("what")
                if what == "end":
                    break
                answer = getattr(inside, "try_" if what == "try" else what)(**told)
                print(json.dumps(answer), file=lines, flush=True)
    inside.end()
    if Path(NODE).exists():
        sys.exit(f"{NODE} is still there")


if __name__ == "__main__":
    main()
