"""``cuse-crypto doctor``: what this machine can do, and what to do about what it cannot."""

import json
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from cuse_crypto.cli.options import announce
from cuse_crypto.errors import Failure

DRIVER = "cryptodev"
"""The module of cryptodev-linux."""
FAULTY = (1, 14)
"""The last version whose memory faults are known (its pull request 103)."""


class Finding(NamedTuple):
    """One thing looked at. ``problem`` names the remedy; None where it works."""

    what: str
    serves: str
    problem: str | None


def _cuse() -> str | None:
    from cuse_crypto.fuse.cuse_node import why_no_cuse

    return why_no_cuse()


def _fuse() -> str | None:
    from cuse_crypto.fuse.mounted_node import why_no_mount

    return why_no_mount()


def _caller_memory() -> str | None:
    from cuse_crypto.frontend.memory import why_not_direct

    return why_not_direct()


def _crioget() -> str | None:
    from cuse_crypto.frontend.crioget.process import why_no_crioget

    return why_no_crioget()


def _run() -> str | None:
    from cuse_crypto.cli.private import why_not_run

    return why_not_run()


def _host_device() -> str | None:
    from cuse_crypto_backend.engines import ENGINES

    try:
        ENGINES["cryptodev"]()
    except Failure as failure:
        return str(failure)
    return None


def _host_driver() -> str | None:
    """Of a host's device that works: whether its driver is known to be faulty."""
    from cuse_crypto.linux import modules

    if not modules.is_loaded(DRIVER):
        # Another program serves it: one of this project, mostly.
        return None
    version = modules.version(DRIVER)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers > FAULTY:
        return None
    remedy = "use --engine openssl where callers are not trusted, see docs/node.md"
    if not numbers:
        return (
            f"cryptodev-linux does not tell its version, and up to 1.14 has memory faults; {remedy}"
        )
    return f"cryptodev-linux {version} has memory faults; {remedy}"


def _af_alg() -> str | None:
    try:
        with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as sock:
            sock.bind(("skcipher", "cbc(aes)"))
    except OSError as error:
        return f"{error.strerror}; modprobe algif_skcipher, or a kernel with CONFIG_CRYPTO_USER_API"
    return None


def _status() -> str | None:
    from cuse_crypto.status.mount import why_no_status

    return why_no_status()


def _filter() -> str | None:
    from cuse_crypto.hardening.system_calls import why_no_filter

    return why_no_filter()


def _systemd() -> str | None:
    # What sd_booted(3) looks at.
    if Path("/run/systemd/system").is_dir():
        return None
    return "it is not running here; start cuse-crypto up by other means"


LOOKS: tuple[tuple[str, str, Callable[[], str | None]], ...] = (
    ("CUSE", "a character device as the node", _cuse),
    ("FUSE", "a mounted file as the node", _fuse),
    ("private /dev", "cuse-crypto run", _run),
    ("caller memory", "one round trip for each ioctl", _caller_memory),
    ("tracing", "CRIOGET: a descriptor for the caller", _crioget),
    ("host /dev/crypto", "the engine cryptodev", _host_device),
    ("AF_ALG", "the kernel's ciphers from user space", _af_alg),
    ("pyfuse3", "status files, top and trace", _status),
    ("libseccomp", "few system calls for the back end", _filter),
    ("systemd", "running as a service", _systemd),
)


def _choices(findings: list[Finding]) -> dict[str, str | None]:
    """What ``auto`` takes, by option; None where nothing can be had."""
    works = {finding.what: finding.problem is None for finding in findings}
    node = "cuse" if works["CUSE"] else "mounted" if works["FUSE"] else None
    return {"node": node, "engine": "cryptodev" if works["host /dev/crypto"] else "openssl"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(as_json: bool) -> None:
    """Say what works on this machine, and the remedy for what does not.

    Exit status 1 when no node can be made here.
    """
    findings = [Finding(what, serves, look()) for what, serves, look in LOOKS]
    choices = _choices(findings)
    if choices["engine"] == "cryptodev":
        what = "host driver", "the host's kernel, whatever callers ask for"
        findings.append(Finding(*what, _host_driver()))
    if as_json:
        rows = [finding._asdict() | {"works": finding.problem is None} for finding in findings]
        announce(json.dumps({"findings": rows, "auto": choices, "uid": os.geteuid()}, indent=2))
    else:
        _show(findings, choices)
    if choices["node"] is None:
        sys.exit(1)


def _show(findings: list[Finding], choices: dict[str, str | None]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "works", "for", "remedy"):
        table.add_column(heading)
    for what, serves, problem in findings:
        table.add_row(what, "no" if problem else "yes", serves, problem or "")
    console = Console(highlight=False)
    console.print(table)
    node = choices["node"] or "nothing: no node can be made here"
    console.print(f"auto takes: node {node}, engine {choices['engine']}")
