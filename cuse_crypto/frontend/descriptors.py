"""CRIOGET: a new descriptor in the caller's process for the open file that it holds.

No system call duplicates a descriptor into another process. But the caller sleeps in its ioctl,
and can be made to make one more system call before it goes on: dup(2).
"""

import errno
import struct

from cuse_crypto.abi.structs import number
from cuse_crypto.frontend.marshal import Call, Marshal
from cuse_crypto.frontend.memory import DirectMemory
from cuse_crypto.frontend.tracee import Tracee, seized, with_result


class DescriptorCalls(Marshal):
    """Descriptors of the open file."""

    def CRIOGET(self, call: Call, op: number) -> None:
        """Store a new descriptor of the caller for its open file; EMFILE when it can have no more.

        EOPNOTSUPP where another process traces the caller, or this one is not let.
        """
        if not isinstance(call.memory, DirectMemory):
            # The kernel copies results only while it answers; this one comes later.
            raise OSError(errno.EOPNOTSUPP, "the caller's memory is closed")
        try:
            with seized(call.thread) as caller:
                descriptor = caller.descriptor()
                call.claim()
                caller.interrupt()
                call.succeed()
                self._duplicate(call, caller, descriptor)
        except (PermissionError, ProcessLookupError) as error:
            raise OSError(errno.EOPNOTSUPP, f"the caller cannot be traced: {error}") from error

    def _duplicate(self, call: Call, caller: Tracee, descriptor: int) -> None:
        """The ioctl is answered already: what goes wrong is put into its result."""
        caller.wait()
        registers = caller.registers()
        try:
            result = caller.call(registers, "dup", descriptor)
            if result >= 0:
                try:
                    call.memory.copy_to_user([self._put(call.arg, struct.pack("=I", result))])
                except OSError as failure:
                    caller.call(registers, "close", result)
                    result = -(failure.errno or errno.EFAULT)
        except OSError as failure:
            result = -(failure.errno or errno.EIO)
        caller.set_registers(with_result(registers, min(result, 0)))
