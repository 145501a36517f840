"""``cuse-crypto run``: a program with a device of its own, which nobody else sees.

This process becomes the program: its pid, terminal, signals and exit status are the program's.
"""

import errno
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import click

from cuse_crypto import namespaces
from cuse_crypto.cli.guards import FAILED, READY, Guards, forked
from cuse_crypto.cli.options import (
    api_option,
    crioget_option,
    deadline_option,
    engine_option,
    limit_options,
    sandbox_option,
    user_option,
    verbose_option,
    workers_option,
)
from cuse_crypto.cli.private import ALIAS, NODE, OWN, enter
from cuse_crypto.errors import Failure

OURS, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
"""Exit statuses, as those of env(1): why there is none of the program's."""
SHARED = "trio", "cuse_crypto.wire.connection"
"""What those who serve both take long to import: once is enough."""
SUPERVISOR = "NOTIFY_SOCKET", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
"""What systemd says to the program, and not to those who serve it."""


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
@engine_option
@api_option
@crioget_option
@workers_option
@deadline_option
@limit_options
@user_option
@sandbox_option
@verbose_option
def command(
    program: tuple[str, ...],
    engine: str,
    user: str | None,
    sandbox: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Run PROGRAM with a /dev/crypto of its own; no root, and nothing stays behind.

    PROGRAM and what it starts find /dev/crypto and /dev/cryptodev0; nobody else does. They end with
    it, and whatever it has left behind ends too. Exit status: the program's; 127 or 126 when it is
    not there or cannot be started, 125 when there can be no device.
    """
    _keep_standard_descriptors()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until it is the program it has nothing to clean up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    flags = [*["-v"] * verbose, *["--no-sandbox"] * (not sandbox)]
    backend = ["backend", "--engine", engine, *(["--user", user] if user else []), *flags]
    device = ["device", "--name", NODE, "--node", "mounted", "--mode", "666", *flags]
    device += ["--owner", str(os.geteuid()), "--group", str(os.getegid())]
    for name, value in options.items():
        device += [f"--{name.replace('_', '-')}", str(value)]
    try:
        path = _found(program[0])
        _make_devices(backend, device)
        _become(path, program)
    except NoProgram as failure:
        _leave(failure, failure.status)
    except Failure as failure:
        _leave(failure, OURS)
    except OSError as error:
        _leave(_why(error), OURS)


def _why(error: OSError) -> str:
    return f"no device can be made: {error.strerror}; look at ulimit -a"


def _leave(line: object, status: int) -> NoReturn:
    click.echo(f"cuse-crypto: {line}", err=True)
    sys.exit(status)


def _keep_standard_descriptors() -> None:
    """Where one of them is closed, no other descriptor takes its number; the program's stay so."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(fd)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - it is always there


class NoProgram(Failure):
    """It is not there, or cannot be started; ``status`` says which, as that of env(1)."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"{name}: {os.strerror(number)}")
        self.status = NOT_FOUND if number == errno.ENOENT else NOT_EXECUTABLE


def _found(name: str) -> str:
    """The path of the program."""
    if path := shutil.which(name):
        return path
    is_there = shutil.which(name, os.F_OK) or (os.sep in name and os.path.isdir(name))
    raise NoProgram(name, errno.EACCES if is_there else errno.ENOENT)


def _make_devices(backend: list[str], device: list[str]) -> None:
    """Into namespaces where both names are served; Failure if that cannot be had."""
    enter()
    for name in SHARED:
        importlib.import_module(name)
    hear, say = os.pipe()
    folder = namespaces.nowhere()
    namespaces.private_dev(without=OWN)
    guards = Guards(say)
    _forked_apart(partial(_serve, guards, say, folder, backend, device))
    os.close(say)
    os.close(folder)
    with open(hear, "rb") as answer:
        said = answer.readline()
    if said == FAILED:
        sys.exit(OURS)
    if said != READY:
        raise Failure("what serves the device was killed; try again")
    node = namespaces.DEV / NODE
    # Until the kernel has asked, its owner is uid 0, who is nobody in a user namespace: EACCES.
    node.stat()
    namespaces.show(node, namespaces.DEV / ALIAS)


def _forked_apart(action: Callable[[], object]) -> None:
    """Do it in a process that is no child of this one, which the program could wait for."""

    def between() -> None:
        try:
            forked(action)
        except OSError as error:
            sys.exit(error.errno)

    _, status = os.waitpid(forked(between), 0)
    if number := os.waitstatus_to_exitcode(status):
        raise OSError(number, os.strerror(number))


def _serve(guards: Guards, say: int, folder: int, backend: list[str], device: list[str]) -> None:
    import setproctitle

    from cuse_crypto.wire.address import Address

    _close_all_but(2, say, folder, guards.program.fd)
    setproctitle.setproctitle("cuse-crypto run (guard)")
    address = Address.parse(f"unix:/proc/self/fd/{folder}/backend")
    # Not to be closed by who forgets the object: a child has it under the same number.
    listener = address.listen().detach()
    follow = f"--with-parent={os.getpid()}"
    try:
        guards.watch(
            partial(_back_end, [*backend, follow, "--listen", f"fd:{listener}"]),
            partial(_become_daemon, [*device, follow, "--status=off", "--backend", str(address)]),
        )
    except OSError as error:
        click.echo(f"cuse-crypto: {_why(error)}", err=True)
        guards.tell(FAILED)


def _close_all_but(*kept: int) -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue
    for _ in range(2):
        os.open(os.devnull, os.O_RDWR)


def _back_end(arguments: list[str], output: int) -> None:
    # Its engine may be the host's /dev/crypto.
    namespaces.leave_private_dev()
    _become_daemon(arguments, output)


def _become_daemon(arguments: list[str], output: int) -> None:
    """Be that command; what it says goes to ``output``."""
    from cuse_crypto.cli.main import main

    sys.stdout = open(output, "w")  # noqa: SIM115 - as long as the process
    sys.argv = ["cuse-crypto", *arguments]
    for name in SUPERVISOR:
        os.environ.pop(name, None)
    main()


def _become(path: str, program: tuple[str, ...]) -> NoReturn:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        # Which Python ignores.
        signal.signal(number, signal.SIG_DFL)
    try:
        try:
            os.execv(path, program)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # As execvp(3) does with a script that does not say what it is.
            os.execv("/bin/sh", ["sh", path, *program[1:]])
    except OSError as error:
        raise NoProgram(program[0], error.errno or errno.ENOENT) from None
