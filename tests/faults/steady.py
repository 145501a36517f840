"""``python -m tests.faults.steady NODE AMOUNT KIND SEED``: as tests/c/steady.c, by the binding.

Every result is compared with hashlib's, hmac's or that of the ``cryptography`` package.
"""

import errno
import hashlib
import hmac
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cuse_crypto import CryptoDevice, InvalidTag

SIZES = 64, 64, 1024, 4096, 4096, 65536, 300 << 10
GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EBADF}
"""After these the open file is of no more use."""
PAUSE = 0.001
"""Seconds between an error and the next try."""


class Steady:
    """One caller."""

    def __init__(self, path: str, seed: int) -> None:
        self.path = path
        self.random = random.Random(seed)
        self.ending = False
        self.figures: dict[str, Any] = dict.fromkeys(
            ("operations", "wrong", "lost", "reopened", "longest_ms"), 0
        )
        self.errors: Counter[str] = Counter()

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Make one call of the device, on the clock."""
        began = time.monotonic()
        try:
            return function(*arguments, **options)
        finally:
            took = (time.monotonic() - began) * 1e3
            self.figures["longest_ms"] = max(self.figures["longest_ms"], took)
            self.figures["operations"] += 1

    def data(self, unit: int = 1) -> bytes:
        """Mostly small, as of most programs."""
        return self.random.randbytes(
            unit * self.random.randint(1, self.random.choice(SIZES) // unit)
        )

    def check(self, right: bool, what: str, size: int) -> None:
        """Count what is wrong."""
        if not right:
            self.figures["wrong"] += 1
            print(f"{size} bytes: wrong {what}", file=sys.stderr)

    def cipher(self, device: CryptoDevice) -> None:
        """Encrypt with an IV and without, and back."""
        key, name = self.random.randbytes(16), self.random.choice(["aes-cbc", "aes-ctr"])
        mode = modes.CBC if name == "aes-cbc" else modes.CTR
        with self.call(device.cipher, name, key) as session:
            iv = self.random.randbytes(16)
            ours = Cipher(algorithms.AES(key), mode(iv)).encryptor()
            first, second = (self.data(16) for _ in range(2))
            secret = self.call(session.encrypt, first, iv=iv)
            self.check(secret == ours.update(first), "ciphertext", len(first))
            chained = self.call(session.encrypt, second)
            self.check(chained == ours.update(second), "chained ciphertext", len(second))
            plain = self.call(session.decrypt, secret, iv=iv)
            self.check(plain == first, "plaintext", len(first))

    def hmac(self, device: CryptoDevice) -> None:
        """An HMAC in one."""
        key, data = self.random.randbytes(32), self.data()
        digest = self.call(device.hmac, "sha256", key, data).digest()
        self.check(digest == hmac.digest(key, data, "sha256"), "HMAC", len(data))

    def aead(self, device: CryptoDevice) -> None:
        """Seal, open, and refuse what is not authentic."""
        key, nonce, data = self.random.randbytes(16), self.random.randbytes(12), self.data()
        with self.call(device.aead, "aes-gcm", key) as session:
            sealed = self.call(session.seal, nonce, data, aad=b"header")
            self.check(sealed == AESGCM(key).encrypt(nonce, data, b"header"), "seal", len(data))
            opened = self.call(session.open, nonce, sealed, aad=b"header")
            self.check(opened == data, "plaintext", len(data))
            try:
                self.call(session.open, nonce, sealed, aad=b"other")
                self.check(False, "tag that was taken", len(data))
            except InvalidTag:
                pass

    def hash(self, device: CryptoDevice) -> None:
        """A stream of some parts."""
        ours, theirs = hashlib.sha256(), self.call(device.hash, "sha256")
        try:
            for _ in range(self.random.randint(1, 6)):
                part = self.data()
                ours.update(part)
                self.call(theirs.update, part)
            digest = self.call(theirs.digest)
        except OSError:
            self.figures["lost"] += 1
            raise
        self.check(digest == ours.digest(), "digest", theirs.digest_size)

    def run(self, kind: str, enough: Callable[[], bool]) -> None:
        """Until it is enough, with another open file whenever one is of no more use."""
        while not enough():
            try:
                with CryptoDevice(self.path) as device:
                    while not enough():
                        self._round(getattr(self, kind), device)
            except OSError as error:
                self.figures["reopened"] += 1
                self._count(error)

    def _round(self, what: Callable[[CryptoDevice], None], device: CryptoDevice) -> None:
        try:
            what(device)
        except OSError as error:
            if error.errno in GONE:
                raise
            self._count(error)

    def _count(self, error: OSError) -> None:
        self.errors[errno.errorcode.get(error.errno or 0, "other")] += 1
        time.sleep(PAUSE)


def main() -> None:
    """Arguments, and the figures in the end."""
    path, amount, kind, seed = sys.argv[1:]
    steady = Steady(path, int(seed))

    def end(number: int, frame: object) -> None:
        steady.ending = True

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    began = time.monotonic()
    count = 0 if amount.endswith("s") else int(amount)
    seconds = float(amount[:-1]) if amount.endswith("s") else 0.0

    def enough() -> bool:
        made, took = steady.figures["operations"], time.monotonic() - began
        return steady.ending or bool(count and made >= count) or bool(seconds and took >= seconds)

    steady.run(kind, enough)
    steady.figures["longest_ms"] = round(steady.figures["longest_ms"], 3)
    figures = {"kind": kind, **steady.figures, "errors": dict(steady.errors)}
    print(json.dumps(figures | {"seconds": round(time.monotonic() - began, 3)}))
    sys.exit(steady.figures["wrong"] != 0)


if __name__ == "__main__":
    main()
