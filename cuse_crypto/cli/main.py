"""``cuse-crypto``: the group of commands, and how a failure ends one.

Exit status: 0 done, 1 failed, 2 wrong usage.
"""

import errno
import importlib
import sys
from pathlib import Path
from typing import NoReturn

import click

from cuse_crypto import __version__
from cuse_crypto.cli import configuration
from cuse_crypto.errors import Failure

COMMANDS = {
    "up": "cuse_crypto.cli.up",
    "run": "cuse_crypto.cli.run",
    "device": "cuse_crypto.cli.device",
    "backend": "cuse_crypto.cli.backend",
    "upgrade": "cuse_crypto.cli.upgrade",
    "chat": "cuse_crypto.cli.chat",
    "bench": "cuse_crypto.cli.bench",
    "status": "cuse_crypto.cli.status",
    "top": "cuse_crypto.cli.top",
    "trace": "cuse_crypto.cli.trace",
    "replay": "cuse_crypto.cli.replay",
    "doctor": "cuse_crypto.cli.doctor",
    "pki": "cuse_crypto.cli.pki",
    "service": "cuse_crypto.cli.service",
    "include-dir": "cuse_crypto.cli.include_dir",
    "completion": "cuse_crypto.cli.completion",
    "man": "cuse_crypto.cli.man",
}
"""Each is the function ``command`` of its module, imported when it is needed."""


class Commands(click.Group):
    """A group that imports a command only to run or to describe it: start-up stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """None for an unknown name."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name]).command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cuse-crypto")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=configuration.DEFAULT,
    show_default=True,
    envvar=configuration.VARIABLE,
    help="A file that options are taken from which the command line does not give.",
)
@click.pass_context
def cli(ctx: click.Context, config: Path) -> None:
    """A /dev/crypto without a kernel module.

    `cuse-crypto up` makes /dev/cryptodev0 and serves it until Ctrl-C.
    """
    assert isinstance(ctx.command, click.Group)
    configuration.Configuration.read(config).apply(ctx, ctx.command)


def main() -> None:
    """The console script."""
    try:
        cli(prog_name="cuse-crypto", standalone_mode=False)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(1)
    except BaseExceptionGroup as group:
        # trio wraps what ends a nursery; the user is told the one thing that went wrong.
        failures = group.subgroup(Failure)
        if failures is None:
            raise
        sys.exit(f"cuse-crypto: {_first(failures)}")
    except Failure as failure:
        sys.exit(f"cuse-crypto: {failure}")
    except OSError as error:
        if error.filename or error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        _end_without_output(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        _end_without_output(error)


def _end_without_output(error: OSError) -> NoReturn:
    """Who has stopped reading knows that; a full disk is told."""
    from cuse_crypto.cli.options import give_up_output

    give_up_output()
    told = f"cuse-crypto: standard output: {error.strerror}"
    sys.exit(1 if error.errno == errno.EPIPE else told)


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
