"""``cuse-crypto pki``: certificates for back ends and devices that speak over TCP."""

import json
from pathlib import Path

import click

from cuse_crypto.cli.options import announce

_folder = click.argument("folder", type=click.Path(path_type=Path))


@click.group("pki")
def command() -> None:
    """Certificates for TCP: an authority of your own, and one certificate for each side.

    The folder of the authority stays where it is. What `issue` makes goes to the machine that it
    is for, which gives it to `backend` or `device` as --pki.
    """


@command.command("init")
@_folder
def init(folder: Path) -> None:
    """Make an authority in FOLDER."""
    from cuse_crypto.cli import authority

    authority.found(folder)
    announce(f"{folder}: an authority; its key is {folder / authority.CA_KEY}, keep it there")


@command.command("issue")
@_folder
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["backend", "device"]),
    required=True,
    help="Which side it is for; it is of no use on the other one.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Name or address by which devices reach a back end; NAME if none. [repeatable]",
)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True)
def issue(folder: Path, name: str, role: str, hosts: tuple[str, ...], days: int) -> None:
    """Make a certificate for NAME, in FOLDER/NAME; another one takes its place."""
    from cuse_crypto.cli import authority

    made = authority.issue(folder, name, role, hosts, days)
    announce(f"{made}: take it to its machine, and start there: cuse-crypto {role} --pki {name}")


@command.command("revoke")
@_folder
@click.argument("name")
def revoke(folder: Path, name: str) -> None:
    """Revoke the certificates that NAME has had so far, by a list in FOLDER.

    Take the list to the folder of each --pki, where a back end that runs takes it up, and ends what
    is connected with a revoked certificate.
    """
    from cuse_crypto.cli import revoking

    made = revoking.revoke(folder, name)
    announce(f"{made}: take it to each machine, into the folder of its --pki")


@command.command("show")
@_folder
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(folder: Path, as_json: bool) -> None:
    """List the certificates of the authority in FOLDER."""
    from cuse_crypto.cli import authority

    rows = list(authority.issued(folder))
    if as_json:
        listed = [
            row._asdict() | {"expires": row.expires.isoformat(), "remark": row.remark}
            for row in rows
        ]
        announce(json.dumps(listed, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("name", "role", "hosts", "expires", ""):
        table.add_column(heading)
    for row in rows:
        cells = row.name, row.role, " ".join(row.hosts), f"{row.expires:%Y-%m-%d}", row.remark
        table.add_row(*cells)
    Console(highlight=False).print(table)
