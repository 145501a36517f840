"""The engine that computes in the kernel, through AF_ALG sockets. Only where it is asked for.

Linux is retiring the interface, and a kernel or a container may have any part of it: what works
is tried out at the start.
"""

import errno
import socket
from contextlib import ExitStack, closing
from pathlib import Path

from cuse_crypto.abi.structs import Cop
from cuse_crypto.errors import Failure
from cuse_crypto_backend.engines import auth, probing
from cuse_crypto_backend.engines.af_alg_hash import KernelMac
from cuse_crypto_backend.engines.af_alg_sockets import KernelAead, KernelCipher
from cuse_crypto_backend.engines.engine import (
    Algorithms,
    AuthKind,
    AuthRequest,
    EngineSession,
    Hashing,
    Keys,
    Run,
)
from cuse_crypto_backend.engines.ofb import Ofb

PROC_CRYPTO = Path("/proc/crypto")
REMEDY = (
    "modprobe -a algif_skcipher algif_hash algif_aead (a kernel with CONFIG_CRYPTO_USER_API_*),"
    " or use --engine openssl"
)


class AfAlgSession:
    """A cipher, a hash, or both: two to seven descriptors."""

    short = None

    def __init__(self, algorithms: Algorithms, keys: Keys) -> None:
        self._algorithms = cipher, mac = algorithms
        self._run: Run | None = None
        self._ofb: Ofb | None = None
        self._aead: KernelAead | None = None
        self._mac: KernelMac | None = None
        with ExitStack() as held:
            if cipher and cipher.is_aead:
                self._aead = held.enter_context(closing(KernelAead(cipher, keys.cipher)))
            elif cipher:
                self._run = held.enter_context(closing(KernelCipher(cipher, keys.cipher))).run
                if cipher.mode == "ofb":
                    self._run = self._ofb = Ofb(cipher, self._run)
            if mac:
                self._mac = KernelMac(mac, keys.mac)
            self._held = held.pop_all()

    @property
    def next_iv(self) -> bytes:
        """As the Protocol says."""
        return self._ofb.next_iv if self._ofb else b""

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview, hashing: int) -> bytes:
        """As the Protocol says. An AEAD has nothing that this could do."""
        if self._aead:
            raise OSError(errno.EINVAL, "an AEAD is for CIOCAUTHCRYPT")
        if self._run:
            self._run(op, iv, src, dst)
        if not self._mac:
            return b""
        if hashing & Hashing.START:
            self._mac.start()
        self._mac.update(dst[: len(src)] if self._run and op == Cop.DECRYPT else src)
        return self._mac.finish() if hashing & Hashing.FINISH else b""

    def auth(self, request: AuthRequest, dst: memoryview) -> tuple[int, bytes]:
        """AEAD in the kernel; TLS and SRTP of the session's own parts."""
        if request.kind == AuthKind.AEAD:
            if self._aead is None:
                raise OSError(errno.EINVAL, "no AEAD")
            return self._aead.run(request, dst), b""
        cipher = self._algorithms.cipher
        if cipher is None or self._run is None:
            raise OSError(errno.EINVAL, "no cipher that could be combined with a mac")
        digest = self._mac.digest if self._mac else None
        return auth.crypt(request, dst, cipher, self._run, digest)

    def copy_hash(self, source: EngineSession) -> None:
        """As the Protocol says; EINVAL where either has no hash."""
        if not (isinstance(source, AfAlgSession) and source._mac and self._mac):
            raise OSError(errno.EINVAL, "no hash")
        self._mac.copy(source._mac)

    def names(self) -> tuple[str, str]:
        """The kernel's drivers."""
        cipher, mac = self._algorithms
        hmac = "hmac({})" if mac and mac.is_keyed else "{}"
        return (
            _driver(cipher.kernel_name) if cipher else "",
            hmac.format(_driver(mac.hash)) if mac else "",
        )

    def close(self) -> None:
        """Drop the keys."""
        self._held.close()
        self._run = self._ofb = self._aead = self._mac = None


class AfAlgEngine:
    """Engine, and open file in one: sessions share nothing."""

    name = "af_alg"

    def __init__(self) -> None:
        try:
            socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close()
        except AttributeError:
            raise Failure("this Python has no AF_ALG sockets; use --engine openssl") from None
        except OSError as error:
            raise Failure(f"no AF_ALG sockets ({error.strerror}); {REMEDY}") from None
        self.algorithms = probing.algorithms(AfAlgSession, (OSError,))
        if not self.algorithms:
            raise Failure(f"the kernel offers no algorithm by AF_ALG; {REMEDY}")

    def open(self) -> "AfAlgEngine":
        """Itself."""
        return self

    def session(self, algorithms: Algorithms, keys: Keys) -> AfAlgSession:
        """EINVAL for what this kernel does not offer."""
        for row in algorithms:
            if row and row.id not in self.algorithms:
                raise OSError(errno.EINVAL, f"the kernel has no {row.kernel_name} for AF_ALG")
        return AfAlgSession(algorithms, keys)

    def close(self) -> None:
        """Holds nothing."""


def _driver(kernel_name: str) -> str:
    """The implementation that the kernel prefers; the algorithm's name where it does not tell."""
    best, driver = -1, kernel_name
    try:
        entries = PROC_CRYPTO.read_text().split("\n\n")
    except OSError:
        return driver
    for entry in entries:
        pairs = (line.partition(":") for line in entry.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        if fields.get("name") == kernel_name and int(fields["priority"]) > best:
            best, driver = int(fields["priority"]), fields["driver"]
    return driver
