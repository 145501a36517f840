"""What this kernel may not have, in virtual machines: a cuse node, AF_ALG and vsock.

Two machines at once, each emulated on one CPU.
"""

import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import virtual_machine

pytestmark = pytest.mark.vm

MODULES = "modprobe -a af_alg algif_skcipher algif_hash algif_aead vsock_loopback"
BOOT_AND_TESTS = 1500.0
CONTRACT = (
    "test_small_and_large",
    "test_two_queues_of_a_guest",
    "test_the_back_end_comes_back",
    "test_nobody_is_there",
    "test_who_is_refused_hears_so_and_is_logged_once",
    "test_a_silent_peer",
)
MACHINES = {
    # Not what only looks at the command line, or needs no kernel: emulation is slow.
    "node": "tests/test_node.py tests/test_chat_programs.py tests/test_af_alg.py "
    "tests/test_engines.py tests/test_bench.py::test_af_alg "
    "tests/test_differential.py::test_the_node_answers_as_the_model "
    "tests/test_differential.py::test_the_engine_of_the_kernels_ciphers_answers_as_the_model "
    + "".join(f"tests/test_transports.py::{name}[vsock] " for name in CONTRACT)
    + "tests/test_transports.py::test_own_cids "
    "tests/test_cli.py::test_up_ends_in_order "
    "tests/test_cli.py::test_a_killed_front_end_is_replaced "
    "tests/test_cli.py::test_a_killed_back_end_is_replaced tests/test_cli.py::test_name_taken "
    "tests/test_succession.py::test_upgrade "
    "tests/test_succession.py::test_where_the_kernel_cannot_send_again "
    "tests/test_run_forbidden.py::test_where_debian_forbids_it",
    # Of the 32-bit programs four: what they ask differs from the 64-bit ones in layouts alone.
    # Long hashes only cost time: conform_cphash and conform_cipher_mac ask for hashes too.
    "conformance": "tests/test_conformance.py -k "
    "'(64 or sessions or tls or srtp or cipher_mac or retry) and not conform_hash'",
}


class Labelled(io.TextIOBase):
    """Standard output, for one of several that write to it: line by line, each with its name."""

    _lock = threading.Lock()

    def __init__(self, label: str) -> None:
        self._label = label
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        with self._lock:
            for line in lines:
                sys.stdout.write(f"    {self._label}: {line}\n")
            sys.stdout.flush()
        return len(text)


def test_cuse_and_af_alg(pytestconfig: pytest.Config) -> None:
    reason = virtual_machine.why_not()
    if reason:
        pytest.skip(reason)
    virtual_machine.prepare()
    pytest_command = f"{sys.executable} -m pytest -v --no-header --node=cuse -p no:cacheprovider"

    def run(label: str) -> tuple[int, str]:
        done = virtual_machine.run(
            f"{MODULES} && {pytest_command} --durations=9 {MACHINES[label]}",
            timeout=BOOT_AND_TESTS,
            progress=Labelled(label),
            cpus=1,
        )
        return done.returncode, done.stdout

    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    assert capture
    # What goes on in the machines is shown while it goes on: it takes minutes.
    with capture.global_and_fixture_disabled(), ThreadPoolExecutor(len(MACHINES)) as pool:
        results = dict(zip(MACHINES, pool.map(run, MACHINES), strict=True))
    for label, (status, output) in results.items():
        assert status == 0, f"{label}: {output[-20_000:]}"
        assert " passed" in output
        assert " skipped" not in output
