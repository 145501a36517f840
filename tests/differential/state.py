"""What the model keeps of sessions and open files."""

from collections import deque
from dataclasses import dataclass, field
from errno import EINVAL

from tests.differential.abi import Refused, Write
from tests.differential.primitives import Algorithm, Mac, run


@dataclass
class Session:
    """What the driver keeps of one."""

    cipher: Algorithm | None
    key: bytes
    mac: Mac | None
    iv: bytes = b""
    tag_size: int = 16
    hashed: bytes | None = None

    def __post_init__(self) -> None:
        self.iv = bytes(self.iv_size)

    @property
    def iv_size(self) -> int:
        """0 without a cipher."""
        return self.cipher.iv_size if self.cipher else 0

    def crypt(self, op: int, data: bytes) -> bytes:
        """Encrypt or decrypt from ``iv``, which goes on."""
        assert self.cipher
        result, self.iv = run(self.cipher, self.key, self.iv, op, data)
        return result

    def hash(self, data: bytes) -> None:
        """Go on, or start."""
        assert self.mac
        self.hashed = (self.mac.inner if self.hashed is None else self.hashed) + data

    def finish(self) -> bytes:
        """The digest; the next operation starts. DEVIATION: fresh"""
        assert self.mac
        digest, self.hashed = self.mac.finish(self.hashed), None
        return digest


@dataclass
class OpenFile:
    """One open file description."""

    sessions: dict[int, Session] = field(default_factory=dict)
    jobs: deque[tuple[int, bytes, list[Write]]] = field(default_factory=deque)

    def session(self, ses: int, unknown: int = EINVAL) -> Session:
        """Refused(``unknown``)."""
        if ses not in self.sessions:
            raise Refused(unknown)
        return self.sessions[ses]
