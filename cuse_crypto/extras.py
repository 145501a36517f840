"""What not every installation has: the extras of pyproject.toml, and their remedies."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure


class Extra(NamedTuple):
    """A module that a command takes. ``packages``: Debian's, where it has to be compiled."""

    module: str
    packages: str = ""


EXTRAS = {
    "plot": Extra("matplotlib"),
    "status": Extra("pyfuse3", "gcc libc6-dev python3-dev pkg-config libfuse3-dev"),
}


def require(name: str, what: str) -> None:
    """Failure with the remedy, if ``what`` is asked for and the extra ``name`` is not installed."""
    module = EXTRAS[name].module
    if find_spec(module) is None:
        raise Failure(f"{what} takes {module}, which is not installed; {remedy(name)}")


def remedy(name: str) -> str:
    """What to type here, by how this program was installed."""
    module, packages = EXTRAS[name]
    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").exists():
        command = f"pipx inject {prefix.name} {module}"
    elif (prefix / "uv-receipt.toml").exists():
        command = f"uv pip install --python {sys.executable} {module}"
    else:
        command = f"{sys.executable} -m pip install {module}"
    return f"apt-get install {packages}, then {command}" if packages else command
