"""What stat(2), chmod(2), chown(2) and statfs(2) ask of a mounted node."""

import errno
import stat
import time
from typing import Any

from cuse_crypto.frontend.ledger import Ledger
from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.node import Attributes
from cuse_crypto.fuse.protocol import Request, layouts
from cuse_crypto.layout import Buffer

_ATTR_OUT = layouts("FUSE_SETATTR")[1]


class Inode:
    """Methods are named after the request that they answer, and give its body."""

    _attributes: Attributes
    _ledger: Ledger

    def FUSE_GETATTR(self, request: Request) -> Buffer:
        """The mounted file, as stat(2) shows it."""
        return _attributes(self._attributes)

    def FUSE_SETATTR(self, request: Request) -> Buffer:
        """chmod(2) and chown(2) work as on a device node; truncate(2) is EINVAL."""
        change, attributes = request.body, self._attributes
        if change.valid & protocol.Fattr.SIZE:
            raise OSError(errno.EINVAL, "a device has no size")
        if change.valid & protocol.Fattr.MODE:
            attributes.mode = stat.S_IMODE(change.mode)
        if change.valid & protocol.Fattr.UID:
            attributes.uid = change.uid
        if change.valid & protocol.Fattr.GID:
            attributes.gid = change.gid
        self._ledger.change(mode=attributes.mode, uid=attributes.uid, gid=attributes.gid)
        return _attributes(attributes)

    def FUSE_STATFS(self, request: Request) -> Buffer:
        """An empty file system."""
        reply = protocol.fuse_statfs_out(0, 0, 0, 0, 0, 4096, 255, 4096)
        return protocol.BY_NAME["FUSE_STATFS"].reply.bytes(reply)  # type: ignore[union-attr]


def _attributes(attributes: Attributes) -> bytes:
    now = int(time.time())
    reply: dict[str, Any] = dict.fromkeys(_ATTR_OUT.record._fields, 0)
    reply |= {"ino": 1, "nlink": 1, "blksize": 4096, "atime": now, "mtime": now, "ctime": now}
    reply |= {"mode": stat.S_IFREG | attributes.mode}
    reply |= {"uid": attributes.uid, "gid": attributes.gid}
    return _ATTR_OUT.bytes(protocol.fuse_attr_out(**reply))
