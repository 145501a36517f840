"""Guests of a stock QEMU whose device this machine's back end serves: the example, as it is run."""

import subprocess
import sys

import pytest

from tests import virtual_machine
from tests.conftest import PROJECT

pytestmark = [pytest.mark.vm, pytest.mark.node]

SECONDS = 900.0


def test_the_example(pytestconfig: pytest.Config) -> None:
    reason = virtual_machine.why_not()
    if reason:
        pytest.skip(reason)
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    assert capture
    # It takes minutes, and says what it sees.
    with (
        capture.global_and_fixture_disabled(),
        subprocess.Popen(
            [sys.executable, "-m", "examples.guest"], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        ) as running,
    ):
        assert running.stdout
        said = []
        for line in running.stdout:
            print(line, end="", flush=True)
            said.append(line.strip())
        status = running.wait(SECONDS)
    assert status == 0
    assert sum(line.startswith("seen: ") for line in said) == 10
