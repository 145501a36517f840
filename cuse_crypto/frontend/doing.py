"""What a worker is doing, for its lines in the log: looked up only when there is one."""

from collections.abc import Callable, Mapping

from cuse_crypto.frontend.apis import APIS
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import layouts

_IOCTL_IN = layouts("FUSE_IOCTL")[0]
_IOCTL = protocol.BY_NAME["FUSE_IOCTL"].number


def describing(message: memoryview, api: str) -> Callable[[], Mapping[str, object]]:
    """What tells of the request in ``message``, whichever is there then, of a node of ``api``."""
    names = {
        number: row.name
        for row in APIS[api][0]
        for width in (64, 32)
        for number in row.numbers(width)
    }

    def describe() -> Mapping[str, object]:
        header = protocol.IN_HEADER.read(message)
        fields: dict[str, object] = {"pid": header.pid, "uid": header.uid}
        if header.opcode == _IOCTL:
            cmd = _IOCTL_IN.read(message[protocol.IN_HEADER.size :]).cmd
            fields["ioctl"] = names.get(cmd, f"{cmd:#x}")
        return fields

    return describe
