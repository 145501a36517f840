"""The C programs that call, compiled on demand."""

import shutil
import subprocess
from pathlib import Path

import cuse_crypto
from cuse_crypto.errors import Failure

SOURCES = Path(__file__).resolve().parent.parent / "c"
INCLUDE = Path(cuse_crypto.__file__).parent / "include"
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}"]
REMEDY = "apt-get install gcc libc6-dev libssl-dev"


def compiled(name: str, folder: Path, *libraries: str) -> Path:
    """The program ``name``, in ``folder``; Failure with the remedy where it cannot be compiled."""
    if shutil.which("cc") is None:
        raise Failure(f"no C compiler; {REMEDY}")
    program = folder / name
    command = ["cc", *FLAGS, "-o", str(program), str(SOURCES / f"{name}.c"), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or ["no reason given"]
        raise Failure(f"{name} cannot be compiled ({said[0]}); {REMEDY}")
    return program
