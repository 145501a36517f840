"""What both kinds of device node have in common, and the choice between them."""

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from cuse_crypto.errors import Failure
from cuse_crypto.fuse.channel import Channel

DEV = Path("/dev")
NODE_NAME_MAX = 64
Kind = Literal["cuse", "mounted"]


@dataclass
class Attributes:
    """Who may open the node: permission bits and the numbers of owner and group."""

    mode: int = 0o660
    uid: int = 0
    gid: int = 0

    @classmethod
    def named(cls, mode: int, owner: str, group: str) -> "Attributes":
        """From names or numbers; Failure for a name that this machine does not know."""
        try:
            uid = int(owner) if owner.isdecimal() else pwd.getpwnam(owner).pw_uid
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError as error:
            raise Failure(f"{error.args[0]}; create it first or give a number") from None
        return cls(mode, uid, gid)


class Node(Protocol):
    """A device node whose requests arrive on ``channel``."""

    kind: Kind
    path: Path
    channel: Channel
    attributes: Attributes
    lock: int
    """The right to the name (see claim): a descriptor that stays open as long as the node is there.
    """

    def waiting(self) -> int:
        """So many requests has the kernel that are not answered. OSError if it does not tell."""

    def abort(self) -> None:
        """Remove the node and end its connection: readers of the channel see the end."""

    def close(self) -> None:
        """Abort and give everything back. Harmless when done before."""


def checked_name(name: str) -> str:
    """``name`` if it can stand in ``/dev``; Failure otherwise."""
    if not name or len(name) > NODE_NAME_MAX or not name.isprintable():
        raise Failure(f"{name!r} is no name for a device; try cryptodev0")
    # With a dot begin the names of what is kept beside nodes.
    if name.startswith(".") or "/" in name or "=" in name or name != name.strip():
        raise Failure(f"{name!r} is no name for a device in {DEV}; try cryptodev0")
    if not name.isascii():
        raise Failure(f"{name!r} is no name for a device in {DEV}; try cryptodev0")
    return name


def taken(path: Path, by: str) -> Failure:
    """The error for a node that exists already."""
    return Failure(f"{path} is taken ({by}); choose another with --name, or end its owner")


def pick(kind: Kind | Literal["auto"]) -> tuple[Kind, str]:
    """The kind of node that this machine can make, and why that one; Failure if there is none."""
    from cuse_crypto.fuse.cuse_node import why_no_cuse
    from cuse_crypto.fuse.mounted_node import why_no_mount

    no_cuse = None if kind == "mounted" else why_no_cuse()
    no_mount = None if kind == "cuse" else why_no_mount()
    if kind == "cuse" and no_cuse:
        raise Failure(no_cuse)
    if kind == "mounted" and no_mount:
        raise Failure(no_mount)
    if kind != "auto":
        return kind, "as asked"
    if no_cuse is None:
        return "cuse", f"{DEV / 'cuse'} is there"
    if no_mount is None:
        return "mounted", no_cuse.partition(";")[0]
    raise Failure(f"no node can be made here: {no_mount}")


def make(name: str, kind: Kind, attributes: Attributes) -> Node:
    """Open the node ``/dev/<name>``; Failure in one line when it cannot be had."""
    from cuse_crypto.fuse.cuse_node import CuseNode
    from cuse_crypto.fuse.mounted_node import MountedNode

    node = CuseNode if kind == "cuse" else MountedNode
    return node(checked_name(name), attributes)


def adopt(name: str, kind: Kind, attributes: Attributes, fd: int, lock: int) -> Node:
    """The node of a predecessor, by the descriptors of its channel and its lock."""
    from cuse_crypto.fuse.cuse_node import CuseNode
    from cuse_crypto.fuse.mounted_node import MountedNode

    node = CuseNode if kind == "cuse" else MountedNode
    return node(checked_name(name), attributes, fd, lock)


def open_kernel(device: Path, remedy: str) -> int:
    """A descriptor of ``/dev/fuse`` or ``/dev/cuse``, or a Failure with ``remedy``."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            os.close(fd)
            raise Failure(f"{device} is no device; {remedy}")
        return fd
    except PermissionError:
        raise Failure(f"{device} is closed to uid {os.geteuid()}; run as root") from None
    except OSError as error:
        raise Failure(f"{device}: {error.strerror}; {remedy}") from None
