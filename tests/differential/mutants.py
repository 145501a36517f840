"""Mutants: copies of the project with one mistake each, all of which the sequences have to find.

``python -m tests.differential.mutants`` prints which sequence has found each.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
from rich import box
from rich.console import Console
from rich.table import Table

from tests.differential.device import serving
from tests.differential.player import Player
from tests.differential.search import difference
from tests.differential.sequences import sequence

PROJECT = Path(__file__).parents[2]
PACKAGES = {"cuse_crypto": PROJECT, "cuse_crypto_backend": PROJECT / "backend"}
FRONTEND, ENGINES = "cuse_crypto/frontend", "cuse_crypto_backend/engines"


class Mutant(NamedTuple):
    """``changes``: texts of ``file`` that stand there once, and what stands there instead."""

    what: str
    file: str
    changes: tuple[tuple[str, str], ...]


class Outcome(NamedTuple):
    """``tries``: sequences until one differed; 0 if none has."""

    mutant: Mutant
    tries: int
    seconds: float


def mutant(what: str, file: str, *changes: str) -> Mutant:
    """``changes``: what was, what is, what was, what is ..."""
    return Mutant(what, file, tuple(zip(changes[::2], changes[1::2], strict=True)))


# fmt: off
MUTANTS = (
    mutant("padding of OFB is hashed", f"{FRONTEND}/crypt.py",
           "size = length if cipher else 0",
           "size = length + (-length % 16) * session.is_ofb if cipher else 0",
           "(session.iv_size, length),", "(session.iv_size, size if cipher else length),"),
    mutant("OFB goes on from a part of a block", f"{FRONTEND}/crypt.py",
           "part.next_iv or cipher.next_iv(", "cipher.next_iv("),
    mutant("the IV of a failed CIOCAUTHCRYPT is lost", f"{FRONTEND}/authcrypt.py",
           "            session.iv = bytes(self._view[_IV : _IV + session.iv_size])\n"
           "            session.h", "            session.h"),
    mutant("the IV of a missing source is lost", f"{FRONTEND}/crypt.py",
           "if given and not plan.wrong:", "if False:"),
    mutant("CIOCAUTHCRYPT does not reset the hash", f"{FRONTEND}/authcrypt.py",
           "session.hashing = session.doubtful = False", "pass"),
    mutant("RESET goes on with what was hashed", f"{FRONTEND}/crypt.py",
           "not several or op.flags & CopFlag.RESET or", "not several or"),
    mutant("WRITE_IV alone does not reset the hash", f"{FRONTEND}/crypt.py",
           "several = op.flags & (CopFlag.UPDATE | CopFlag.FINAL)\n    start",
           "several = op.flags\n    start"),
    mutant("an empty UPDATE is not the end", f"{FRONTEND}/crypt.py",
           "op.flags & CopFlag.FINAL or not op.len", "op.flags & CopFlag.FINAL"),
    mutant("WRITE_IV writes nothing", f"{FRONTEND}/crypt.py",
           "return bool(op.flags & CopFlag.WRITE_IV and op.iv and session.iv_size)",
           "return False"),
    mutant("CBC decryption goes on from plaintext", "cuse_crypto/abi/algorithms.py",
           "dst if op == Cop.ENCRYPT else src", "dst"),
    mutant("the same, on the fast path", f"{FRONTEND}/express.py",
           "end = IV + total if op else DST + length", "end = DST + length"),
    mutant("parts do not chain", f"{FRONTEND}/crypt.py",
           "            self._view[IV:src_at] = session.iv\n", ""),
    mutant("the length is checked before the IV", f"{FRONTEND}/crypt.py",
           "        memory, iv_size = call.memory, session.iv_size\n",
           "        memory, iv_size = call.memory, session.iv_size\n"
           "        if plan.wrong:\n            raise OSError(errno.EINVAL, '')\n"),
    mutant("op is checked before the IV", f"{FRONTEND}/authcrypt.py",
           "            self._load_iv(call, op, session)\n            cipher", "            cipher",
           "            # Also where it fails",
           "            self._load_iv(call, op, session)\n            # Also where it fails"),
    mutant("the size of a tag is not kept", f"{FRONTEND}/authcrypt.py",
           "        session.tag_size = tag_size\n", ""),
    mutant("a tag is cut to 16 bytes", f"{FRONTEND}/authcrypt.py",
           "return min(op.tag_len or digest_size, digest_size)",
           "return min(op.tag_len or digest_size, digest_size, 16)"),
    mutant("SRTP authenticates from the payload on", f"{FRONTEND}/authcrypt.py",
           "AEAD_SRTP_TYPE, tag_size, sizes, offset)", "AEAD_SRTP_TYPE, tag_size, sizes, 0)"),
    mutant("results are fetched last first", f"{FRONTEND}/asynchronous.py",
           "file.jobs[0] is not job", "file.jobs[-1] is not job",
           "file.jobs.popleft()", "file.jobs.pop()", "return file.jobs[0]", "return file.jobs[-1]"),
    mutant("a job fetched in vain stays", f"{FRONTEND}/asynchronous.py",
           "            fetch.save()\n            raise",
           "            call.file.jobs.appendleft(job)\n            raise"),
    mutant("a copied hash is not under way", f"{FRONTEND}/sessions.py",
           "target.hashing, target.place = True, source.place", "target.place = source.place"),
    mutant("TLS pads with the number of bytes", f"{ENGINES}/auth.py",
           "    return bytes([pad - 1]) * pad\n", "    return bytes([pad]) * pad\n"),
    mutant("wrong padding is not looked for", f"{ENGINES}/auth.py",
           "return (pad, True) if right else (0, False)", "return (min(pad, len(record)), True)"),
    mutant("DECRYPT hashes ciphertext", f"{ENGINES}/openssl.py",
           "plain = dst[: len(src)] if self._run and op == Cop.DECRYPT else src", "plain = src"),
)
# fmt: on


def copied(mutant: Mutant, folder: Path) -> None:
    """The project with this mistake, in ``folder``."""
    for name, parent in PACKAGES.items():
        shutil.copytree(parent / name, folder / name)
    path = folder / mutant.file
    text = path.read_text()
    for was, becomes in mutant.changes:
        if text.count(was) != 1:
            raise SystemExit(f"{mutant.what}: not once in {mutant.file}: {was}")
        text = text.replace(was, becomes)
    path.write_text(text)


def tried(mutant: Mutant, seed: str, most: int) -> Outcome:
    """Play up to ``most`` sequences on a device made of the copy."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cuse-crypto-mutant-") as folder:
        copied(mutant, Path(folder))
        with serving("--engine", "openssl", "--status", "off", copy=Path(folder)) as path:
            tries = first(path, seed, most)
    return Outcome(mutant, tries, time.monotonic() - began)


def first(path: Path, seed: str, most: int) -> int:
    """How many sequences it takes."""
    player = Player(path)
    for number in range(most):
        if difference(player, sequence(f"{seed}/{number}")) is not None:
            return number + 1
    return 0


def outcomes(seed: str, most: int) -> Iterator[Outcome]:
    """Of all mutants."""
    for one in MUTANTS:
        yield tried(one, seed, most)


@click.command()
@click.option("--seed", default="1", show_default=True)
@click.option("--sequences", type=click.IntRange(1), default=3000, show_default=True)
def main(seed: str, sequences: int) -> None:
    """Try all mutants. Exit status 1: one is not found in that many sequences."""
    table = Table("mutant", "in", box=box.SIMPLE_HEAD)
    for heading in ("found by sequence", "s"):
        table.add_column(heading, justify="right")
    missed = 0
    for mutant, tries, seconds in outcomes(seed, sequences):
        table.add_row(mutant.what, mutant.file, str(tries or "none"), f"{seconds:.1f}")
        missed += not tries
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
