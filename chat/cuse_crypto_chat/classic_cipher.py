"""AES-128-CBC for the classic wire, by CIOCCRYPT: the same key and IV for every message."""

from collections.abc import Sequence

from cuse_crypto_chat.cipher import Crypto, Sessions
from cuse_crypto_chat.classic import MESSAGE_SIZE

WARNING = (
    "this is the course's wire, for teaching: it keeps nothing secret (one key and IV for all "
    "messages, zeros unless given) and notices no change"
)
PLAIN_WARNING = "this is the course's wire without encryption: whoever is on the way can read all"


class ClassicCipher:
    """``crypto`` None is --plain: nothing is encrypted."""

    def __init__(self, crypto: Crypto | None, key: bytes, iv: bytes) -> None:
        self._crypto = crypto
        self._key = key
        self._iv = iv
        self.warning = WARNING if crypto else PLAIN_WARNING

    async def check(self) -> None:
        """Failure if the device is not there or cannot do it."""
        if self._crypto:
            await self._crypto.check(lambda device: self._encrypt(device, [bytes(MESSAGE_SIZE)]))

    async def encrypt(self, messages: Sequence[bytes]) -> bytes:
        """Messages of 256 bytes, one behind the other. Waits while the device is gone."""
        if self._crypto is None:
            return b"".join(messages)
        return b"".join(await self._crypto.do(lambda device: self._encrypt(device, messages)))

    async def decrypt(self, messages: Sequence[bytes]) -> list[bytes]:
        """Messages of 256 bytes."""
        if self._crypto is None:
            return list(messages)
        return await self._crypto.do(lambda device: self._decrypt(device, messages))

    def _encrypt(self, device: Sessions, messages: Sequence[bytes]) -> list[bytes]:
        session = device.cbc(self._key)
        return [session.encrypt(one, iv=self._iv) for one in messages]

    def _decrypt(self, device: Sessions, messages: Sequence[bytes]) -> list[bytes]:
        session = device.cbc(self._key)
        return [session.decrypt(one, iv=self._iv) for one in messages]
