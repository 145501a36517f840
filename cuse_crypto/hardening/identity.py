"""Becoming another user for good."""

import contextlib
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure

PREFERRED = "cuse-crypto", "nobody"
"""Who a process of root's becomes: a user of its own where somebody has made one. A number that is
free today would be somebody else's tomorrow, with the right to signal it."""


class Identity(NamedTuple):
    """A user, with the groups that it is in from then on."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def named(cls, user: str) -> "Identity":
        """From a name or number; Failure for a name that this machine does not know."""
        try:
            row = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            if user.isdecimal():
                return cls(user, int(user), int(user))
            raise Failure(f"no user {user!r}; create it first or give another --user") from None
        return cls(row.pw_name, row.pw_uid, row.pw_gid)

    @classmethod
    def preferred(cls) -> "Identity":
        """The first of PREFERRED that this machine has; Failure if there is none."""
        for user in PREFERRED:
            with contextlib.suppress(Failure):
                return cls.named(user)
        raise Failure(f"no user {' or '.join(PREFERRED)} here; choose one with --user")

    def in_group_of(self, device: Path) -> "Identity":
        """The same, in the device's group if it is open to that; but never in root's."""
        status = device.stat()
        shared = status.st_gid and stat.S_IMODE(status.st_mode) & 0o060 == 0o060
        return self._replace(groups=(*self.groups, status.st_gid)) if shared else self

    def may_open(self, devices: Collection[Path]) -> bool:
        """Whether it may read and write all of them, by the word of the kernel."""
        with self._for_a_moment():
            return all(os.access(path, os.R_OK | os.W_OK, effective_ids=True) for path in devices)

    @contextlib.contextmanager
    def _for_a_moment(self) -> Iterator[None]:
        before = os.geteuid(), os.getegid(), os.getgroups()
        try:
            os.setgroups(self.groups)
            os.setegid(self.gid)
            os.seteuid(self.uid)
            yield
        finally:
            os.seteuid(before[0])
            os.setegid(before[1])
            os.setgroups(before[2])

    def become(self) -> None:
        """For good, in all threads; Failure if this process may not.

        The kernel forgets PR_SET_PDEATHSIG and PR_SET_DUMPABLE meanwhile.
        """
        if (self.uid, self.gid) == (os.geteuid(), os.getegid()) and os.geteuid():
            return
        try:
            os.setgroups(self.groups)
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as error:
            raise Failure(
                f"uid {os.geteuid()} may not become {self.name}: {error.strerror}; "
                "leave --user out, or as root give --user root"
            ) from None
