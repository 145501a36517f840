"""ENCRYPT and DECRYPT of ``crypto_buffer``: a session for one operation, made of what is there."""

import errno

from cuse_crypto.abi.algorithms import CIPHERS
from cuse_crypto.abi.crypto_buffer import crypto_buffer
from cuse_crypto.abi.structs import Cop, crypt_op
from cuse_crypto.frontend.crypt import CryptCalls
from cuse_crypto.frontend.files import wipe
from cuse_crypto.frontend.marshal import SMALL, Call
from cuse_crypto.frontend.memory import Range, RetriedMemory

_AES_CBC = CIPHERS[11]


class BufferCalls(CryptCalls):
    """The caller sleeps until its buffer is done."""

    def ENCRYPT(self, call: Call, op: crypto_buffer) -> None:
        """From ``input`` to ``output``."""
        self._once(call, op, Cop.ENCRYPT)

    def DECRYPT(self, call: Call, op: crypto_buffer) -> None:
        """From ``input`` to ``output``."""
        self._once(call, op, Cop.DECRYPT)

    def _once(self, call: Call, op: crypto_buffer, direction: int) -> None:
        if op.key_len not in _AES_CBC.key_sizes or op.len % _AES_CBC.block_size:
            raise OSError(errno.EINVAL, "no length of a key, or of data")
        call.memory.copy_from_user([Range(op.key, op.key_len)], SMALL)
        key = bytearray(self._view[SMALL : SMALL + op.key_len])
        wipe(self._view[SMALL : SMALL + op.key_len])
        if isinstance(call.memory, RetriedMemory):
            call.memory.forget(op.key_len)
        try:
            session = call.file.new_session(_AES_CBC, None, key, b"")
            session.passing = True
        finally:
            wipe(key)
        try:
            self._tell(call.file, session)
            crypt = crypt_op(op=direction, len=op.len, src=op.input, dst=op.output)
            call.memory.commit(self._operate(call, crypt, session, []).dst, session)
        finally:
            session.end()
            self._end(call.file, session.ses)
