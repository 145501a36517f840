"""Options that several commands share, stated once."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cuse_crypto.cli import logs
from cuse_crypto.frontend import limits
from cuse_crypto.wire.address import Address
from cuse_crypto.wire.tls import Credentials, secured

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

DEFAULT_NAME = "cryptodev0"


class AddressType(click.ParamType[Address]):
    """``unix:PATH`` and its like: SCHEME:REST."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """A usage error for what is no address."""
        from cuse_crypto.errors import Failure

        try:
            return Address.parse(value)
        except Failure as failure:
            self.fail(str(failure), param, ctx)


class OctalType(click.ParamType[int]):
    """Permission bits, in octal as chmod takes them."""

    name = "octal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """A usage error for anything but 0 to 777 in octal."""
        try:
            mode = value if isinstance(value, int) else int(value, 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o777:
            self.fail(f"{value!r} is no mode; write it in octal, as in 0660", param, ctx)
        return mode


def _together(*options: Callable[[Any], Any]) -> Callable[[FunctionT], FunctionT]:
    def decorate(function: FunctionT) -> FunctionT:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


api_option = click.option(
    "--api",
    type=click.Choice(["cryptodev", "crypto-buffer"]),
    default="cryptodev",
    show_default=True,
    help="What the node answers: the cryptodev API, or crypto/crypto_buffer.h.",
)

workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=16,
    show_default=True,
    help="At most so many requests at once; one to begin with.",
)

deadline_option = click.option(
    "--deadline",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    help="Seconds for one answer of the back end.",
)

crioget_option = click.option(
    "--crioget",
    type=click.Choice(["auto", "unfiltered", "off"]),
    default="auto",
    show_default=True,
    help="For which callers CRIOGET works: all that may be traced (auto), among them those in "
    "containers; none under a system call filter (unfiltered); none (off). Others get EOPNOTSUPP.",
)

node_options = _together(
    click.option("--name", default=DEFAULT_NAME, show_default=True, help="Of the node in /dev."),
    click.option(
        "--node",
        "kind",
        type=click.Choice(["auto", "cuse", "mounted"]),
        default="auto",
        show_default=True,
        help="A character device (cuse), or a file mounted at the same place.",
    ),
    api_option,
    click.option(
        "--mode",
        type=OctalType(),
        default="0660",
        show_default=True,
        help="Permission bits of the node. On a cuse node an udev rule may change them later: "
        'KERNEL=="cryptodev*", SUBSYSTEM=="cuse", MODE="0666".',
    ),
    click.option("--owner", default="root", show_default=True, help="Of the node."),
    click.option("--group", default="root", show_default=True, help="Of the node."),
    click.option(
        "--status",
        default="auto",
        show_default=True,
        metavar="auto|off|DIR",
        help="Where the status files are mounted: /run/cuse-crypto/NAME (auto), or a folder.",
    ),
    workers_option,
    deadline_option,
    click.option(
        "--patience",
        type=click.FloatRange(0, 3600),
        default=5.0,
        show_default=True,
        help="Seconds to wait for a back end that is not there.",
    ),
    click.option(
        "--memory",
        type=click.Choice(["auto", "retry"]),
        default="auto",
        show_default=True,
        help="How the memory of callers is reached: ourselves where the kernel lets us (auto), or "
        "always by the kernel (retry; cuse only, 128 KiB at most).",
    ),
    crioget_option,
)

_HELP = {
    limits.FILES: "Open files of one user, or EMFILE.",
    limits.SESSIONS: "Sessions of one user, or ENOSPC.",
    limits.BYTES: "Bytes of one operation, or EMSGSIZE.",
    limits.RATE: "Ioctls of one user in a second, or EAGAIN.",
    limits.BUSY: "Ioctls of one user at once; more wait. 0: all --workers but two.",
}

limit_options = _together(
    *(
        click.option(
            f"--{row.name}",
            type=click.IntRange(0),
            default=row.default,
            show_default=bool(row.default),
            help=_HELP[row],
        )
        for row in limits.LIMITS
    )
)

engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "cryptodev", "openssl", "af_alg", "null"]),
    default="auto",
    show_default=True,
    help="Where operations are computed: this host's /dev/crypto, OpenSSL, the kernel's AF_ALG "
    "(which Linux is retiring), or nowhere (copies). auto is cryptodev where it is there, else "
    "openssl.",
)

user_option = click.option(
    "--user",
    default=None,
    metavar="NAME|UID",
    help="Who the back end becomes: under root cuse-crypto if there is such a user, else nobody; "
    "root for itself.",
)

sandbox_option = click.option(
    "--sandbox/--no-sandbox",
    default=True,
    show_default=True,
    help="Give up the privileges and system calls that serving does not take.",
)

tls_options = _together(
    click.option(
        "--pki",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="For tcp: what `cuse-crypto pki issue` has made for this side.",
    ),
    *(
        click.option(
            f"--tls-{what}",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"For tcp, instead of --pki: {meaning}, in PEM.",
        )
        for what, meaning in (
            ("cert", "the certificate of this side"),
            ("key", "its key"),
            ("ca", "the authority whose certificates the other side may have"),
        )
    ),
    click.option(
        "--tls-crl",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="For tcp: the authority's list of revoked certificates, in PEM; taken up when it "
        "changes.  [default: ca.crl in the folder of --pki]",
    ),
)


def credentials(options: dict[str, Any]) -> Credentials | None:
    """What the ``tls_options`` name, which are taken out of ``options``; None for nothing."""
    given = [options.pop(name) for name in ("pki", "tls_cert", "tls_key", "tls_ca", "tls_crl")]
    found = secured(*given) if any(given) else None
    if found and found.remark():
        logging.getLogger(__name__).warning("%s", found.remark())
    return found


verbose_option = click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")


def set_up_process(command: str, verbose: bool, **fields: object) -> None:
    """Name the process for ps, and send the log to standard error or to the journal.

    ``fields`` are keys of ``journal.FIELDS``, for all that it says.
    """
    import setproctitle

    hidden = "--inherit=", "--exit-monitor="
    words = [word for word in sys.argv[1:] if not word.startswith(hidden)]
    setproctitle.setproctitle(" ".join(["cuse-crypto", *words]))
    logs.set_up(command, verbose, fields)


def described(engine: str) -> str:
    """The engine as `ready:` names it: whose driver computes, where it is not one of ours."""
    return f"{engine}, host driver" if engine == "cryptodev" else engine


def announce(text: str) -> None:
    """One line on standard output, at once; nothing where nobody reads it."""
    try:
        print(text, flush=True)
    except OSError as error:
        logging.getLogger(__name__).debug("standard output: %s", error.strerror)
        give_up_output()


def give_up_output() -> None:
    """Nobody reads standard output: what is left to be written there goes nowhere."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def follow_parent(parent: int) -> int:
    """Be sent SIGTERM when ``parent`` dies, however it dies, unless that is 0; its pid.

    To be repeated after a change of user, which the kernel forgets it for.
    """
    from cuse_crypto.linux import credentials

    if not parent:
        return 0
    credentials.prctl(credentials.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)
    return parent
