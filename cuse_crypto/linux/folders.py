"""Folders in which another user may not have put something else."""

import errno
import os
import stat
from pathlib import Path


def check(folder: Path) -> None:
    """PermissionError if a user who is neither root nor this one can replace ``folder``, or what is
    in it. OSError if there is none.
    """
    for one in (folder, *folder.absolute().parents):
        status = one.lstat() if one == folder else one.stat()
        open_to_all = stat.S_IMODE(status.st_mode) & 0o022
        # In a folder like /tmp others cannot rename or remove what is not theirs.
        sticky = one != folder and status.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is no folder", str(one))
        if status.st_uid not in (0, os.geteuid()) or (open_to_all and not sticky):
            raise PermissionError(errno.EACCES, f"{one} can be changed by other users", str(one))
