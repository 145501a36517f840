"""How the service comes to a machine, and goes without a trace.

A record says what was not there before: that alone is removed.
"""

import contextlib
import grp
import json
import os
import pwd
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cuse_crypto.errors import Failure
from cuse_crypto.service import files, systemd
from cuse_crypto.service.files import CONFIGURATION, File
from cuse_crypto.service.program import Program

RECORD = Path("/var/lib/cuse-crypto/installed.json")
USER, GROUP = "cuse-crypto", "crypto"
TARGET = "cuse-crypto.target"
ALL = "cuse-crypto*"
MOST_DEVICES = 32

Say = Callable[[str], None]


def device_unit(number: int) -> str:
    """The unit of ``/dev/cryptodev<number>``."""
    return f"cuse-crypto-device@cryptodev{number}.service"


def write_configuration(say: Say) -> None:
    """The configuration file as it comes, where there is none."""
    if not CONFIGURATION.exists():
        record = _Record.read()
        record.write(File(CONFIGURATION, files.source("cuse-crypto.toml")))
        say(f"{CONFIGURATION}")


def install(
    program: Program, tables: Mapping[str, Any], *, devices: int | None, enable: bool, say: Say
) -> None:
    """Put everything in its place; with ``enable`` start it, now and whenever the machine does.

    ``devices``: so many; None for those that there are, or one.
    ``tables`` are those of the configuration. What is there already is brought up to date.
    """
    _check_kernel(tables.get("device", {}))
    record = _Record.read()
    record.note_users()
    wanted = [*files.units(program), *files.others(tables)]
    for file in wanted:
        record.write(file)
        say(f"{file.path}")
    record.forget_others(wanted)
    systemd.call("systemd-sysusers", str(files.SYSUSERS))
    systemd.call("systemd-tmpfiles", "--create", str(files.TMPFILES))
    _reload_rules()
    instances = _instances(devices)
    backends = [name for name, row in tables.get("backend", {}).items() if isinstance(row, dict)]
    sockets = [f"cuse-crypto-backend@{name}.socket" for name in backends]
    units = ["cuse-crypto-backend.socket", *sockets, TARGET] if enable else []
    # systemd reads the new files by that, and starts afterwards what these units want.
    systemd.systemctl("enable", *instances, *units)
    if units:
        systemd.systemctl("start", *units)


def remove(*, keep_configuration: bool, say: Say) -> None:
    """End all of it and take it away; Failure if there is nothing."""
    record = _Record.read()
    if not record.files:
        raise Failure("the service is not installed; nothing to remove")
    loaded = [row["Id"] for row in systemd.shown(ALL)]
    # Devices first, so that their last requests are answered; then nobody wakes the back end.
    for kind in ("device", "socket", "service", "target"):
        ending = [name for name in loaded if kind in name]
        if ending:
            systemd.systemctl("stop", *ending)
        loaded = [name for name in loaded if name not in ending]
    enabled = _enabled(ALL)
    if enabled:
        systemd.systemctl("disable", "--no-reload", *enabled)
    for path in record.remove_files({CONFIGURATION} if keep_configuration else set()):
        say(f"{path}")
    _reload_rules()
    systemd.systemctl("daemon-reload")
    systemd.systemctl("reset-failed", ALL, fails=False)
    with contextlib.suppress(OSError):
        Path("/run/cuse-crypto").rmdir()
    record.remove_users(say)
    record.remove()


def _instances(devices: int | None) -> list[str]:
    """The devices that are to be enabled; those numbered beyond ``devices`` are ended."""
    enabled = _enabled("cuse-crypto-device@*")
    if devices is None:
        return enabled or [device_unit(0)]
    numbered = [device_unit(number) for number in range(MOST_DEVICES)]
    surplus = [name for name in enabled if name in numbered[devices:]]
    if surplus:
        systemd.systemctl("disable", "--now", *surplus)
    return numbered[:devices]


def _check_kernel(devices: Mapping[str, Any]) -> None:
    if devices.get("node") == "mounted" or Path("/sys/class/cuse").exists():
        return
    try:
        systemd.call("modprobe", "--dry-run", "cuse")
    except Failure:
        raise Failure(
            f'this kernel has no CUSE; write node = "mounted" under [device] in {CONFIGURATION}'
        ) from None


def _reload_rules() -> None:
    if systemd.has("udevadm"):
        # There may be no udev: then nobody reads the rules.
        systemd.call("udevadm", "control", "--reload", fails=False)


def _enabled(pattern: str) -> list[str]:
    """Units that are enabled; of templates the instances, which systemctl lists only if loaded."""
    found = files.UNITS.glob(f"*.wants/{pattern}")
    return sorted({path.name for path in found if path.is_symlink()})


def _known(look_up: Callable[[str], object], name: str) -> bool:
    with contextlib.suppress(KeyError):
        look_up(name)
        return True
    return False


class _Record:
    """What has been made that was not there before."""

    def __init__(self, said: Mapping[str, list[str]]) -> None:
        self.files = list(map(Path, said.get("files", [])))
        self.folders = list(map(Path, said.get("folders", [])))
        self.users = list(said.get("users", []))
        self.groups = list(said.get("groups", []))

    @classmethod
    def read(cls) -> "_Record":
        try:
            return cls(json.loads(RECORD.read_text()))
        except FileNotFoundError:
            return cls({})
        except (OSError, ValueError) as error:
            raise Failure(f"{RECORD} cannot be read: {error}") from None

    def save(self) -> None:
        """Before what it tells of is made: better too much is in it than too little."""
        self._make_folder(RECORD.parent)
        said = {name: list(map(str, values)) for name, values in vars(self).items()}
        RECORD.write_text(json.dumps(said, indent=2) + "\n")

    def note_users(self) -> None:
        """Users and groups that are not there yet are going to be ours."""
        if not _known(pwd.getpwnam, USER):
            self.users = [USER]
        self.groups += [name for name in (USER, GROUP) if not _known(grp.getgrnam, name)]

    def write(self, file: File) -> None:
        """Make or replace one file, all at once."""
        self._make_folder(file.path.parent)
        if file.path not in self.files:
            if file.path.exists():
                raise Failure(f"{file.path} is there and not ours; move it away")
            self.files.append(file.path)
        self.save()
        new = file.path.with_name(f".{file.path.name}.new")
        new.write_text(file.text)
        new.chmod(0o644)
        os.replace(new, file.path)

    def forget_others(self, wanted: Iterable[File]) -> None:
        """Remove what an earlier installation had and this one has not."""
        current = {CONFIGURATION, *(file.path for file in wanted)}
        for path in [path for path in self.files if path not in current]:
            path.unlink(missing_ok=True)
            self.files.remove(path)
        self.save()

    def remove_files(self, kept: set[Path]) -> list[Path]:
        """Those that are gone now, and the folders that were made for them and are empty."""
        gone = [path for path in self.files if path not in kept]
        for path in gone:
            path.unlink(missing_ok=True)
        for folder in reversed(self.folders):
            if folder != RECORD.parent:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return gone

    def remove_users(self, say: Say) -> None:
        """Those that were made for the service."""
        for program, names in (("userdel", self.users), ("groupdel", self.groups)):
            for name in names:
                look_up = pwd.getpwnam if program == "userdel" else grp.getgrnam
                # userdel takes a user's own group along.
                if _known(look_up, name):
                    systemd.call(program, name)
                    say(f"{program} {name}")

    def remove(self) -> None:
        """The record itself."""
        RECORD.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            RECORD.parent.rmdir()

    def _make_folder(self, folder: Path) -> None:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            self.folders.append(one)
            one.mkdir(mode=0o755)
