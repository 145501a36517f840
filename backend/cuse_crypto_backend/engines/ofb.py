"""OFB that knows where it goes on. Source: NIST SP 800-38A, 6.4."""

from cuse_crypto.abi.algorithms import Cipher
from cuse_crypto.abi.structs import Cop
from cuse_crypto_backend.engines.engine import Run


class Ofb:
    """Runs ``run``, and keeps the last block of key stream, used in part or whole."""

    def __init__(self, cipher: Cipher, run: Run) -> None:
        self._cipher = cipher
        self._run = run
        self.next_iv = b""

    def __call__(self, op: int, iv: bytes, src: memoryview, dst: memoryview) -> None:
        """Run, of engine.py."""
        self._run(op, iv, src, dst)
        size = self._cipher.iv_size
        whole = len(src) - len(src) % size
        if whole:
            iv = self._cipher.next_iv(op, iv, src[:whole], dst[:whole])
        self.next_iv = iv if whole == len(src) else self._block_after(iv)

    def _block_after(self, iv: bytes) -> bytes:
        """The key stream is what zeros are encrypted to."""
        block = bytearray(2 * len(iv))
        self._run(Cop.ENCRYPT, iv, memoryview(bytes(len(iv))), memoryview(block))
        return bytes(block[: len(iv)])
