"""``cuse-crypto include-dir``: where the C header is, for ``cc -I``."""

from pathlib import Path

import click

import cuse_crypto
from cuse_crypto.cli.options import announce


@click.command("include-dir")
def command() -> None:
    """Print the folder of crypto/cryptodev.h: cc -I"$(cuse-crypto include-dir)" ..."""
    announce(str(Path(cuse_crypto.__file__).parent / "include"))
