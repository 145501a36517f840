"""CRIOGET, as the handler of an ioctl: see the package crioget."""

import errno

from cuse_crypto.abi.structs import number
from cuse_crypto.frontend.crioget.broker import HandedOver
from cuse_crypto.frontend.marshal import Call, Marshal
from cuse_crypto.frontend.memory import DirectMemory


class DescriptorCalls(Marshal):
    """Descriptors of the open file."""

    def CRIOGET(self, call: Call, op: number) -> None:
        """Store a new descriptor of the caller for its open file; EMFILE when it can have no more.

        EOPNOTSUPP where its caller may not be traced.
        """
        if not isinstance(call.memory, DirectMemory):
            # The kernel copies results only while it answers; this one comes later.
            raise OSError(errno.EOPNOTSUPP, "the caller's memory is closed")
        raise HandedOver
