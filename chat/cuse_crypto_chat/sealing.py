"""Records through the device: sealed and opened by CIOCAUTHCRYPT, several on one visit."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from cuse_crypto import InvalidTag
from cuse_crypto_chat.cipher import Crypto, Sessions
from cuse_crypto_chat.records import HEADER, Opened, read_header
from cuse_crypto_chat.secret import sender_key

MAX_KEYS = 2048


class Sealer:
    """Seals for one room, whose key this is, with the key of each record's stream."""

    def __init__(self, crypto: Crypto, key: bytes) -> None:
        self._crypto = crypto
        self._key_of: Callable[[bytes], bytes] = lru_cache(MAX_KEYS)(lambda s: sender_key(key, s))

    async def check(self) -> None:
        """Failure if the device is not there, or has no AES-256-GCM."""
        await self._crypto.check(lambda device: device.gcm(bytes(32)).seal(bytes(12), b""))

    async def seal(self, stream: bytes, batch: Sequence[Opened]) -> list[bytes]:
        """Records of our own stream, in order. Waits while the device is gone."""
        key = self._key_of(stream)

        def work(device: Sessions) -> list[bytes]:
            aead = device.gcm(key)
            return [one.header + aead.seal(one.nonce, one.plain, one.header) for one in batch]

        return await self._crypto.do(work)

    async def open(self, batch: Sequence[bytes]) -> list[bytes | None]:
        """The plaintexts of sealed records, whose headers are valid; None for a wrong tag."""
        prepared = []
        for record in batch:
            header, nonce = read_header(record)
            prepared.append((self._key_of(header.stream), nonce, memoryview(record)))

        def work(device: Sessions) -> list[bytes | None]:
            return [_open(device, key, nonce, record) for key, nonce, record in prepared]

        return await self._crypto.do(work)


def _open(device: Sessions, key: bytes, nonce: bytes, record: memoryview) -> bytes | None:
    try:
        return device.gcm(key).open(nonce, record[HEADER.size :], record[: HEADER.size])
    except InvalidTag:
        return None
