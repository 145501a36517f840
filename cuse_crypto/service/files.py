"""The files of the service, as they are to be on this machine.

In the folder ``systemd`` stand their texts, where ``@NAME@`` is what depends on the machine.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.service.program import PACKAGE, Program, quoted

CONFIGURATION = Path("/etc/cuse-crypto.toml")
UNITS = Path("/etc/systemd/system")
RULES = Path("/etc/udev/rules.d/60-cuse-crypto.rules")
SYSUSERS = Path("/etc/sysusers.d/cuse-crypto.conf")
TMPFILES = Path("/etc/tmpfiles.d/cuse-crypto.conf")
DEVICE = "cuse-crypto-device@.service"


class File(NamedTuple):
    """One file and what is to stand in it."""

    path: Path
    text: str


def source(name: str) -> str:
    """A text of the folder ``systemd``: in the package, or beside it where it was not built."""
    for folder in (PACKAGE / "systemd", PACKAGE.parent / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text()
    raise Failure(f"{PACKAGE / 'systemd' / name} is missing; install cuse-crypto anew")


def units(program: Program, configuration: Path = CONFIGURATION) -> Iterator[File]:
    """The back end's for the only one, and for those with a name; the devices' and their target."""
    common = {
        "PROGRAM": program.spelled,
        "CONFIG": str(configuration),
        "PROTECT_HOME": "tmpfs" if program.in_homes else "yes",
        "SHOWN": "\n".join(f"BindReadOnlyPaths={quoted(str(path))}" for path in program.hidden()),
    }
    only = {"BACKEND": "backend", "CHOICE": "", "OF_INSTANCE": "", "AT": ""}
    named = {"BACKEND": "%i", "CHOICE": " --instance %i", "OF_INSTANCE": " %i", "AT": "@%i"}
    for kind in ("socket", "service"):
        text = source(f"cuse-crypto-backend.{kind}")
        yield File(UNITS / f"cuse-crypto-backend.{kind}", filled(text, common | only))
        yield File(UNITS / f"cuse-crypto-backend@.{kind}", filled(text, common | named))
    yield File(UNITS / DEVICE, filled(source(DEVICE), common))
    yield File(UNITS / "cuse-crypto.target", source("cuse-crypto.target"))


def others(tables: Mapping[str, Any]) -> Iterator[File]:
    """Users, folders and udev's rules, by the tables of the configuration."""
    yield File(SYSUSERS, source("cuse-crypto.sysusers"))
    yield File(TMPFILES, source("cuse-crypto.tmpfiles"))
    devices = tables.get("device", {})
    yield File(RULES, rules(devices))
    special = {name: row for name, row in devices.items() if isinstance(row, dict)}
    for name, row in {"": devices, **special}.items():
        if row.get("node") == "mounted" or row.get("status", "off") != "off":
            folder = UNITS / f"{DEVICE.replace('@', f'@{name}')}.d"
            yield File(folder / "mounts.conf", source("mounts.conf"))


def rules(table: Mapping[str, Any]) -> str:
    """udev's, which say of a node what its device is told: udev may have the last word."""
    common = {"owner": "root", "group": "root", "mode": "0660"}
    common |= {name: value for name, value in table.items() if name in common}
    special = {name: row for name, row in table.items() if isinstance(row, dict)}
    lines = [source("cuse-crypto.rules").rstrip(), _rule("cryptodev*", common)]
    lines += [
        _rule(name, {key: row.get(key, value) for key, value in common.items()})
        for name, row in special.items()
    ]
    return "\n".join([*lines, ""])


def _rule(name: str, values: Mapping[str, Any]) -> str:
    mode = values["mode"] if isinstance(values["mode"], str) else f"{values['mode']:04o}"
    match = f'SUBSYSTEM=="cuse", KERNEL=="{name}"'
    return f'{match}, OWNER="{values["owner"]}", GROUP="{values["group"]}", MODE="{mode}"'


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with each ``@NAME@`` replaced; a line of which nothing is left goes."""
    lines = []
    for line in text.splitlines():
        was = line
        for name, value in values.items():
            line = line.replace(f"@{name}@", value)
        lines += [line] if line or not was else []
    return "\n".join([*lines, ""])
