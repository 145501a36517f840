"""The program that the service runs: this one, from where it is installed."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure

PACKAGE = Path(__file__).parent.parent
HOMES = Path("/home"), Path("/root"), Path("/run/user")
TEMPORARY = Path("/tmp"), Path("/var/tmp")
"""These and HOMES a service sees empty, but for what it is shown."""


class Program(NamedTuple):
    """How it is called, and the folders that it needs for that."""

    command: tuple[str, ...]
    folders: tuple[Path, ...]

    @classmethod
    def own(cls) -> "Program":
        """That of this process."""
        script = Path(sys.executable).with_name("cuse-crypto")
        module = (sys.executable, "-P", "-m", "cuse_crypto")
        command = (str(script),) if os.access(script, os.X_OK) else module
        # Of an editable installation the package lies elsewhere.
        package = PACKAGE.parent
        found = Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent
        folders = dict.fromkeys([*found, package, Path(os.path.realpath(package))])
        outer = (one for one in folders if not any(_below(one, other) for other in folders))
        return cls(command, tuple(outer))

    def check_owners(self) -> None:
        """Failure if somebody else than root could change it: that would be root."""
        for folder in self.folders:
            for path in (folder, *folder.parents):
                status = path.stat()
                shared = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
                if status.st_uid or shared:
                    raise Failure(
                        f"{path} is not root's alone, and who may write there would become root; "
                        "install cuse-crypto as root (pipx install --global), or give --any-owner"
                    )

    def check_access(self) -> None:
        """Failure if the user of the back end could not run it."""
        hidden = set(self.hidden())
        for folder in self.folders:
            # Above what a service is shown, it sees folders that are made for that.
            for path in (folder, *(() if folder in hidden else folder.parents)):
                if not path.stat().st_mode & stat.S_IXOTH:
                    raise Failure(
                        f"{path} is closed to the user cuse-crypto; chmod o+rx {path}, or install "
                        "cuse-crypto elsewhere (pipx install --global)"
                    )

    @property
    def spelled(self) -> str:
        """For ExecStart=, where ``$`` is special too."""
        return " ".join(quoted(part.replace("$", "$$")) for part in self.command)

    def hidden(self) -> Iterator[Path]:
        """The folders that a service has to be shown."""
        for folder in self.folders:
            if any(_within(folder, place) for place in (*HOMES, *TEMPORARY)):
                yield folder

    @property
    def in_homes(self) -> bool:
        """One of them lies below a home."""
        return any(_within(folder, home) for folder in self.folders for home in HOMES)


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _below(path: Path, folder: Path) -> bool:
    return folder in path.parents


def quoted(word: str) -> str:
    """One word of a unit file (systemd.syntax(7), Quoting; systemd.unit(5), Specifiers)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if set(escaped) & set(" \t'\"\\;") else escaped
