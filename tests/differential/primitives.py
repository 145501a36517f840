"""The algorithms of the API as the model has them: tables of the record, and what they compute.

Over hashlib, hmac and cryptography; nothing of the project is imported. Sizes are in bytes.
"""

import hashlib
import hmac
import struct
from typing import Any, NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import Blowfish, Camellia, TripleDES
from cryptography.hazmat.decrepit.ciphers.modes import CFB, OFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM


class Algorithm(NamedTuple):
    """A cipher; ``block`` is what lengths are multiples of."""

    name: str
    key_sizes: tuple[int, ...]
    iv_size: int
    block: int

    @property
    def mode(self) -> str:
        """``"cbc"`` of ``"cbc(aes)"``."""
        return self.name[:3]

    @property
    def is_aead(self) -> bool:
        """For CIOCAUTHCRYPT without a type."""
        return self.mode in ("gcm", "ccm")


AES = (16, 24, 32)
# fmt: off
CIPHERS = {
    1: Algorithm("cbc(des)", (8,), 8, 8), 2: Algorithm("cbc(des3_ede)", (24,), 8, 8),
    3: Algorithm("cbc(blowfish)", tuple(range(4, 57)), 8, 8),
    11: Algorithm("cbc(aes)", AES, 16, 16), 16: Algorithm("ecb(cipher_null)", (0,), 0, 1),
    21: Algorithm("ctr(aes)", AES, 16, 1), 22: Algorithm("xts(aes)", (32, 48, 64), 16, 16),
    23: Algorithm("ecb(aes)", AES, 0, 16), 24: Algorithm("cfb(aes)", AES, 16, 1),
    25: Algorithm("ofb(aes)", AES, 16, 1), 50: Algorithm("gcm(aes)", AES, 12, 1),
    51: Algorithm("ccm(aes)", AES, 16, 1), 101: Algorithm("cbc(camellia)", AES, 16, 16),
}
MACS = {
    6: "hmac(md5)", 7: "hmac(sha1)", 8: "hmac(rmd160)", 13: "md5", 14: "sha1", 18: "hmac(sha256)",
    19: "hmac(sha384)", 20: "hmac(sha512)", 102: "rmd160", 103: "sha224", 104: "sha256",
    105: "sha384", 106: "sha512", 107: "hmac(sha224)",
}
# fmt: on
TAGS = {"gcm": (4, 8, 12, 13, 14, 15, 16), "ccm": (4, 6, 8, 10, 12, 14, 16)}


class Mac:
    """A hash or an HMAC. A hash under way is what comes before the data, and the data."""

    def __init__(self, name: str, key: bytes) -> None:
        self.name, self.key = name, key
        self.hash = name.removeprefix("hmac(").rstrip(")").replace("rmd160", "ripemd160")
        self.is_keyed = name.startswith("hmac(")
        self.size = hashlib.new(self.hash).digest_size
        block = hashlib.new(self.hash).block_size
        self.key = (self._hash(key) if len(key) > block else key).ljust(block, b"\0")
        self.inner = bytes(byte ^ 0x36 for byte in self.key) if self.is_keyed else b""
        self.outer = bytes(byte ^ 0x5C for byte in self.key)

    def _hash(self, data: bytes) -> bytes:
        return hashlib.new(self.hash, data).digest()

    def finish(self, state: bytes | None) -> bytes:
        """The digest of what is under way; None: of nothing."""
        inside = self._hash(self.inner if state is None else state)
        return self._hash(self.outer + inside) if self.is_keyed else inside

    def of(self, data: bytes) -> bytes:
        """The digest of ``data`` alone."""
        return hmac.digest(self.key, data, self.hash) if self.is_keyed else self._hash(data)


def run(cipher: Algorithm, key: bytes, iv: bytes, op: int, data: bytes) -> tuple[bytes, bytes]:
    """The result, and the IV that the next operation goes on from."""
    if not data or cipher.name == "ecb(cipher_null)":
        return data, iv
    if cipher.mode == "xts":
        return xts(key, iv, op, data), iv  # DEVIATION: xts
    result = once(mode_of(cipher, iv), cipher, key, op, data)
    secret, size = (data if op else result), len(iv)
    if cipher.mode in ("cbc", "cfb"):
        whole = len(secret) // size * size
        iv = secret[whole - size : whole] if whole else iv
    elif cipher.mode == "ctr":
        iv = (int.from_bytes(iv) + -(-len(data) // 16) & (1 << 128) - 1).to_bytes(16)
    elif cipher.mode == "ofb":
        iv = once(mode_of(cipher, iv), cipher, key, 0, bytes(len(data) + -len(data) % 16))[-16:]
    return result, iv


_MODES: dict[str, Any] = {"cbc": modes.CBC, "ctr": modes.CTR, "cfb": CFB, "ofb": OFB}


def mode_of(cipher: Algorithm, iv: bytes) -> Any:
    """OpenSSL's."""
    return modes.ECB() if cipher.mode == "ecb" else _MODES[cipher.mode](iv)


def once(mode: Any, cipher: Algorithm, key: bytes, op: int, data: bytes) -> bytes:
    """One operation of a context of its own."""
    base: Any = {
        "aes": algorithms.AES, "camellia": Camellia, "blowfish": Blowfish, "des3_ede": TripleDES,
        "des": lambda single: TripleDES(single * 3),
    }[cipher.name[4:-1]]  # fmt: skip
    context = Cipher(base(key), mode)
    return bytes((context.decryptor() if op else context.encryptor()).update(data))


def xts(key: bytes, iv: bytes, op: int, data: bytes) -> bytes:
    """IEEE 1619: one data unit of whole blocks."""
    half, ecb = len(key) // 2, CIPHERS[23]
    tweak = int.from_bytes(once(modes.ECB(), ecb, key[half:], 0, iv), "little")
    tweaks = bytearray()
    for _ in range(0, len(data), 16):
        tweaks += tweak.to_bytes(16, "little")
        tweak = tweak << 1 ^ (1 << 128 | 0x87 if tweak >> 127 else 0)
    return xor(once(modes.ECB(), ecb, key[:half], op, xor(data, tweaks)), tweaks)


def xor(left: bytes, right: bytes | bytearray) -> bytes:
    """Of equal lengths."""
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


def composite_key(mac_key: bytes, size: int, key: bytes) -> bytes:
    """What an AEAD is given as its key where there is one of a mac too; see crypto/authenc.c."""
    return struct.pack("=HH", 8, 1) + size.to_bytes(4) + mac_key + key


def seal_aead(
    cipher: Algorithm, key: bytes, iv: bytes, data: bytes, auth: bytes, size: int
) -> bytes:
    """Ciphertext and ``size`` bytes of tag."""
    if cipher.mode == "ccm":
        return AESCCM(key, size).encrypt(iv[1 : 15 - iv[0]], data, auth)
    sealing = Cipher(algorithms.AES(key), modes.GCM(iv)).encryptor()
    sealing.authenticate_additional_data(auth)
    return sealing.update(data) + sealing.finalize() + sealing.tag[:size]


def open_aead(
    cipher: Algorithm, key: bytes, iv: bytes, data: bytes, auth: bytes, size: int
) -> bytes:
    """InvalidTag for what is not authentic."""
    if cipher.mode == "ccm":
        return AESCCM(key, size).decrypt(iv[1 : 15 - iv[0]], data, auth)
    opening = Cipher(algorithms.AES(key), modes.GCM(iv, data[-size:], 4)).decryptor()
    opening.authenticate_additional_data(auth)
    return opening.update(data[:-size]) + opening.finalize()
