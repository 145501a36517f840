"""The C programs beside this file: compiled on demand, and what one run of the caller says."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import cuse_crypto
from cuse_crypto.errors import Failure

HERE = Path(__file__).resolve().parent
INCLUDE = Path(cuse_crypto.__file__).parent / "include"
_FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}"]
REMEDY = "apt-get install gcc libc6-dev libssl-dev"


@dataclass(frozen=True)
class Programs:
    """The compiled programs."""

    c_pair: Path
    caller: Path


def compile_all(folder: Path) -> Programs:
    """Both, in ``folder``; Failure with the remedy where they cannot be compiled."""
    programs = Programs(folder / "c_pair", folder / "caller")
    _compile(programs.c_pair, *sorted((HERE / "c_pair").glob("*.c")), "-lcrypto")
    _compile(programs.caller, HERE / "caller.c", "-pthread")
    return programs


def _compile(program: Path, *arguments: str | Path) -> None:
    if shutil.which("cc") is None:
        raise Failure(f"no C compiler; {REMEDY}")
    command = ["cc", *_FLAGS, "-o", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = next(
            (line for line in done.stderr.splitlines() if "rror" in line), "no reason given"
        )
        raise Failure(f"{program.name} cannot be compiled ({said}); {REMEDY}")


@dataclass(frozen=True)
class Run:
    """What the caller prints. Latencies in microseconds, of single operations."""

    size: int
    callers: int
    operations_per_second: float
    p50: float
    p99: float


def command(caller: Path, device: str, **options: int | str | bool) -> list[str]:
    """``caller --size 256 DEVICE`` of ``size=256``; True is a flag without a value."""
    words = [str(caller)]
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return [*words, device]


def run(caller: Path, device: str, **options: int | str | bool) -> Run:
    """One run to its end; Failure with what it complains of."""
    words = command(caller, device, **options)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{device}: {done.stderr.strip()}")
    return parse(done.stdout)


def parse(line: str) -> Run:
    """The caller's line."""
    told = json.loads(line)
    microseconds = told["microseconds"]
    return Run(
        told["size"],
        told["callers"],
        told["operations_per_second"],
        microseconds["p50"],
        microseconds["p99"],
    )
