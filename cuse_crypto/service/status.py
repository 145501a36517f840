"""What the service is doing."""

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.service import systemd
from cuse_crypto.service.installation import ALL, RECORD, TARGET

DEV = Path("/dev")


class Row(NamedTuple):
    """One unit. ``node`` is as ``ls`` tells it, where the unit has one that is there."""

    unit: str
    enabled: str
    state: str
    pid: int
    restarts: int
    node: str
    says: str


def rows() -> list[Row]:
    """All units of the service that are loaded; none where it is not installed."""
    if not RECORD.exists():
        return []
    found = systemd.shown(ALL, TARGET, "cuse-crypto-backend.socket", "cuse-crypto-backend.service")
    unique = {row["Id"]: row for row in found if row.get("LoadState") == "loaded"}
    return [_row(unique[name]) for name in sorted(unique)]


def _row(unit: dict[str, str]) -> Row:
    name = unit["Id"]
    return Row(
        name,
        unit.get("UnitFileState", ""),
        f"{unit.get('ActiveState', '')} ({unit.get('SubState', '')})",
        int(unit.get("MainPID") or 0),
        int(unit.get("NRestarts") or 0),
        _node(name),
        unit.get("StatusText", ""),
    )


def _node(unit: str) -> str:
    start, _, rest = unit.partition("@")
    path = DEV / rest.removesuffix(".service")
    if start != "cuse-crypto-device" or not path.exists():
        return ""
    status = path.stat()
    return f"{stat.filemode(status.st_mode)} {_user(status)} {_group(status)} {path}"


def _user(status: os.stat_result) -> str:
    try:
        return pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return str(status.st_uid)


def _group(status: os.stat_result) -> str:
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)
