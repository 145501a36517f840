"""``cuse-crypto trace``: the ioctls of a device as they are made, and into a file."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cuse_crypto.cli.options import DEFAULT_NAME
from cuse_crypto.errors import Failure

if TYPE_CHECKING:
    from cuse_crypto.status.wishes import Wishes


@click.command("trace")
@click.argument("name", default=DEFAULT_NAME)
@click.option("--pid", type=int, multiple=True, help="Only of this process, or thread.")
@click.option("--uid", type=int, multiple=True, help="Only of this user.")
@click.option("--ioctl", multiple=True, metavar="NAME", help="Only of this name: CIOCCRYPT.")
@click.option("--errno", multiple=True, metavar="NAME", help="Only with this errno: EINVAL, 0.")
@click.option("--count", type=click.IntRange(1), help="End after so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in a line.")
@click.option(
    "--data",
    is_flag=True,
    help="With --json: the bytes themselves, too. Whoever reads this reads what programs encrypt "
    "and decrypt.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it into a new file, with the bytes, for `cuse-crypto replay`.",
)
@click.option(
    "--with-keys",
    is_flag=True,
    help="With --record: the keys of sessions that are made meanwhile, too. Whoever has the file "
    "has the keys.",
)
def command(name: str, count: int | None, as_json: bool, **options: Any) -> None:
    """Print one line for each ioctl of the device NAME, as strace would, until Ctrl-C.

    Lengths and short hashes only, unless bytes are asked for. For root.
    """
    from cuse_crypto.status.client import find

    record, with_keys = options.pop("record"), options.pop("with_keys")
    if with_keys and not record:
        raise click.UsageError("--with-keys is for --record")
    if options["data"] and not (as_json or record):
        raise click.UsageError("--data is for --json")
    wishes = _wishes(as_json or bool(record), bool(record), with_keys, options)
    tree = find(name)
    try:
        if record:
            _record(tree.trace(wishes), tree.info(), with_keys, record, count)
        else:
            _print(tree.trace(wishes), count)
    except KeyboardInterrupt:
        pass


def _wishes(as_json: bool, record: bool, keys: bool, options: dict[str, Any]) -> "Wishes":
    from cuse_crypto.status.wishes import MOST, Wishes

    sets = {name: set(options[name]) for name in ("pid", "uid", "ioctl", "errno")}
    if any(len(wanted) > MOST for wanted in sets.values()):
        raise click.UsageError(f"at most {MOST} of one kind")
    return Wishes(json=as_json, data=options["data"] or record, keys=keys, **sets)


def _print(lines: Iterator[str], count: int | None) -> None:
    for line in lines:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            # Whoever it was piped to has seen enough.
            sys.stderr.close()
            return
        if count is not None:
            count -= 1
            if not count:
                return


def _record(
    lines: Iterator[str], info: dict[str, str], keys: bool, path: Path, count: int | None
) -> None:
    from cuse_crypto.status.recording import header_of

    try:
        # Nobody else may read what was encrypted.
        file = open(path, "x", opener=_private)  # noqa: SIM115
    except FileExistsError:
        raise Failure(f"{path} is there already; remove it, or name another file") from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    written = 0
    with file:
        file.write(json.dumps(header_of(info, keys)) + "\n")
        try:
            for line in lines:
                file.write(line + "\n")
                file.flush()
                written += "dropped" not in line[:12]
                if written == count:
                    break
        finally:
            print(f"{path}: {written} ioctls", file=sys.stderr)


def _private(path: str, flags: int) -> int:
    import os

    return os.open(path, flags, 0o600)
