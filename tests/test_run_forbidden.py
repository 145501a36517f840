"""``cuse-crypto run`` on machines that forbid something, and in what containers give."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from cuse_crypto import namespaces
from tests.running import ABC, COMMAND, HASH, output, run
from tests.unprivileged import as_user
from tests.virtual_machine import EXCHANGE

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(os.geteuid() != 0, reason="to forbid something takes root"),
]

FORBIDDEN = {
    "closed fuse": (["--fuse", "600"], "/dev/fuse has mode 0600", "chmod 666 /dev/fuse"),
    "no namespaces": (["--namespaces", "0"], "user.max_user_namespaces is 0", "sysctl -w"),
    "no unshare": (["--forbid", "unshare"], "seccomp", "--security-opt seccomp=unconfined"),
    "no mount": (["--forbid", "mount"], "seccomp", "--security-opt seccomp=unconfined"),
    "no capability": (
        ["--uid", "0", *(f"--without={number}" for number in range(41))],
        "without CAP_SETFCAP",
        "--cap-add SETFCAP",
    ),
    "container": (
        ["--uid", "0", "--without", "21", "--forbid", "unshare", "--forbid", "mount"],
        "no user namespace for uid 0",
        "--security-opt seccomp=unconfined",
    ),
}


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_where_it_is_forbidden(kind: str) -> None:
    options, *said = FORBIDDEN[kind]
    before = as_user(*options)
    done = run(before, "true")
    assert (done.returncode, done.stdout) == (125, "")
    (line,) = done.stderr.splitlines()
    assert all(part in line for part in said)
    assert line == f"cuse-crypto: {doctor(before)}"


@pytest.mark.skipif(not Path(EXCHANGE).exists(), reason="it is a setting of the machine")
def test_where_debian_forbids_it() -> None:
    """A kernel of another age, too."""
    namespaces.CLONE_SETTING.write_text("0")
    try:
        done = run(as_user(), "true")
    finally:
        namespaces.CLONE_SETTING.write_text("1")
    assert done.returncode == 125
    assert "sysctl -w kernel.unprivileged_userns_clone=1" in done.stderr
    assert output(as_user(), "test", "-w", "/dev/crypto") == ""


def doctor(before: Sequence[str]) -> str | None:
    """What it says of ``run``."""
    words = [*before, *COMMAND, "doctor", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    rows = json.loads(done.stdout)["findings"]
    return next(row["problem"] for row in rows if row["what"] == "private /dev")  # type: ignore[no-any-return]


def test_where_it_is_not() -> None:
    assert doctor(as_user()) is None
    assert doctor([]) is None


@pytest.mark.parametrize("without", [[21], [19], {*range(41)} - {31}])
def test_root_of_a_container(without: Collection[int]) -> None:
    """Without CAP_SYS_ADMIN, CAP_SYS_PTRACE, or all but CAP_SETFCAP: in a user namespace then."""
    before = as_user("--uid", 0, *(f"--without={number}" for number in without))
    assert output(before, sys.executable, "-P", "-c", HASH, "/dev/crypto") == f"{ABC}\n"
    assert output(before, "id", "-u") == "0\n"
