"""The engine that computes in OpenSSL: the ``cryptography`` package, and hashlib for hashes."""

import errno
from collections.abc import Callable
from functools import partial

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher as OpensslCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from cuse_crypto.abi.algorithms import Cipher, Mac
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines import auth, contexts, probing, xts
from cuse_crypto_backend.engines.engine import (
    Algorithms,
    AuthKind,
    AuthRequest,
    EngineSession,
    Hashing,
    Keys,
    Run,
    Short,
)
from cuse_crypto_backend.engines.hashing import Hash
from cuse_crypto_backend.engines.ofb import Ofb


def _runner(cipher: Cipher, key: bytes) -> Run:
    """What encrypts and decrypts, without padding and tag."""
    if cipher.base == "cipher_null":
        return _copy
    if cipher.mode == "xts":
        return partial(xts.crypt, key)
    return contexts.runner(cipher, key)


def _copy(op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
    dst[: len(src)] = src


class OpensslSession:
    """A cipher, a hash, or both."""

    def __init__(self, algorithms: Algorithms, keys: Keys) -> None:
        self._cipher, mac = algorithms
        self._key = keys.cipher
        self._run: Run | None = None
        self._ofb: Ofb | None = None
        self._short: Short | None = None
        if self._cipher and not self._cipher.is_aead:
            self._run = _runner(self._cipher, keys.cipher)
            if self._cipher.mode == "ofb":
                self._run = self._ofb = Ofb(self._cipher, self._run)
        self._hash = Hash(mac, keys.mac) if mac else None

    @property
    def short(self) -> Short | None:
        """Made when it is first asked for: most sessions of a program with many are idle."""
        if self._run and not self._short and self._cipher:
            self._short = contexts.short(self._cipher, self._key)
        return self._short

    @property
    def next_iv(self) -> bytes:
        """As the Protocol says."""
        return self._ofb.next_iv if self._ofb else b""

    def crypt(self, op: int, iv: bytes, src: memoryview, dst: memoryview, hashing: int) -> bytes:
        """As the Protocol says. An AEAD has nothing that this could do."""
        if self._run:
            if len(src):
                self._run(op, iv, src, dst)
        elif self._cipher:
            raise OSError(errno.EINVAL, "an AEAD is for CIOCAUTHCRYPT")
        if not self._hash:
            return b""
        if hashing & Hashing.START:
            self._hash.start()
        plain = dst[: len(src)] if self._run and op == Cop.DECRYPT else src
        self._hash.update(plain)
        return self._hash.finish() if hashing & Hashing.FINISH else b""

    def auth(self, request: AuthRequest, dst: memoryview) -> tuple[int, bytes]:
        """AEAD here; TLS and SRTP of the session's own parts."""
        if request.kind != AuthKind.AEAD:
            if self._cipher is None or self._run is None:
                raise OSError(errno.EINVAL, "no cipher that could be combined with a mac")
            return auth.crypt(request, dst, self._cipher, self._run, self._digest())
        if not (self._cipher and self._cipher.is_aead):
            raise OSError(errno.EINVAL, "no AEAD")
        seal_or_open = _gcm if self._cipher.mode == "gcm" else _ccm
        try:
            return seal_or_open(self._key, request, dst), b""
        except InvalidTag:
            raise OSError(errno.EBADMSG, "not authentic") from None
        except (ValueError, OverflowError) as error:
            raise OSError(errno.EINVAL, str(error)) from None

    def _digest(self) -> Callable[..., bytes] | None:
        return self._hash.digest if self._hash else None

    def copy_hash(self, source: EngineSession) -> None:
        """As the Protocol says; EINVAL where either has no hash."""
        if not (isinstance(source, OpensslSession) and source._hash and self._hash):
            raise OSError(errno.EINVAL, "no hash")
        self._hash.copy(source._hash)

    def names(self) -> tuple[str, str]:
        """``cbc-aes-openssl``, in the manner of the kernel's drivers."""
        mac = self._hash.mac if self._hash else None
        return _driver_name(self._cipher), _driver_name(mac)

    def close(self) -> None:
        """Drop the keys."""
        self._run = self._ofb = self._short = self._hash = None
        self._key = b""


def _driver_name(row: Cipher | Mac | None) -> str:
    return row.kernel_name.rstrip(")").replace("(", "-") + "-openssl" if row else ""


def _gcm(key: bytes, request: AuthRequest, dst: memoryview) -> int:
    size, src = request.tag_size, request.src
    if request.op == Cop.ENCRYPT:
        sealing = OpensslCipher(algorithms.AES(key), modes.GCM(request.iv)).encryptor()
        sealing.authenticate_additional_data(request.auth)
        length = sealing.update_into(src, dst)
        sealing.finalize()
        dst[length : length + size] = sealing.tag[:size]
        return length + size
    length = len(src) - size
    mode = modes.GCM(request.iv, bytes(src[length:]), min_tag_length=4)
    opening = OpensslCipher(algorithms.AES(key), mode).decryptor()
    opening.authenticate_additional_data(request.auth)
    opening.update_into(src[:length], dst)
    opening.finalize()
    return length


def _ccm(key: bytes, request: AuthRequest, dst: memoryview) -> int:
    """``iv`` is formatted as in RFC 3610: L - 1, the nonce, and room for a counter of L bytes."""
    if not 1 <= request.iv[0] <= 7:
        raise OSError(errno.EINVAL, "no length of a counter")
    nonce = request.iv[1 : 15 - request.iv[0]]
    ccm = AESCCM(key, tag_length=request.tag_size)
    if request.op == Cop.ENCRYPT:
        result = ccm.encrypt(nonce, request.src, request.auth)
    else:
        result = ccm.decrypt(nonce, request.src, request.auth)
    dst[: len(result)] = result
    return len(result)


class OpensslEngine:
    """Engine, and open file in one: sessions share nothing."""

    name = "openssl"

    def __init__(self) -> None:
        failures = UnsupportedAlgorithm, ValueError, OSError
        self.algorithms = probing.algorithms(OpensslSession, failures)

    def open(self) -> "OpensslEngine":
        """Itself."""
        return self

    def session(self, algorithms: Algorithms, keys: Keys) -> OpensslSession:
        """EINVAL for what this OpenSSL does not offer."""
        for row in algorithms:
            if row and row.id not in self.algorithms:
                raise OSError(errno.EINVAL, f"OpenSSL has no {row.kernel_name} here")
        return OpensslSession(algorithms, keys)

    def close(self) -> None:
        """Holds nothing."""
