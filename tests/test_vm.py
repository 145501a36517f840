"""What this kernel may not have, in a virtual machine: the node as a cuse node, and AF_ALG."""

import sys

import pytest

from tests import virtual_machine

pytestmark = pytest.mark.vm

# Not what only looks at the command line, or needs no kernel: emulation is slow.
TESTS = [
    "tests/test_node.py",
    "tests/test_chat_programs.py",
    "tests/test_af_alg.py",
    "tests/test_engines.py",
]
MORE = [
    "tests/test_cli.py::test_up_ends_in_order",
    "tests/test_cli.py::test_a_killed_child_ends_up",
    "tests/test_cli.py::test_name_taken",
]
BOOT_AND_TESTS = 1000.0


def test_cuse_node_and_af_alg(request: pytest.FixtureRequest) -> None:
    reason = virtual_machine.why_not()
    if reason:
        pytest.skip(reason)
    modules = "modprobe -a af_alg algif_skcipher algif_hash algif_aead"
    pytest_command = f"{sys.executable} -m pytest -q --node=cuse -p no:cacheprovider"
    command = f"{modules} && {pytest_command} --durations=9 {' '.join(TESTS + MORE)}"
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture
    with capture.global_and_fixture_disabled():
        # What goes on in the machine is shown while it goes on: it takes minutes.
        done = virtual_machine.run(
            command, timeout=BOOT_AND_TESTS, progress=sys.stdout if reporter else None
        )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
