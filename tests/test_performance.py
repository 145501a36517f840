"""Speed does not get lost: this device beside the C pair, in one run, with very wide bounds.

Narrow ones are what ``python -m benchmarks.compare`` is for.
"""

import os
import signal
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks import compare, programs, resources, sections
from benchmarks.sections import Row, Section
from cuse_crypto import CryptoDevice
from cuse_crypto.bench import devices
from cuse_crypto.bench.devices import Device, available, pinned
from cuse_crypto.bench.processes import Process
from cuse_crypto.errors import Failure
from tests.conftest import Service, eventually

SIZE = 256
MOST = 3.0
"""A ratio of medians, some three times what it should be: noise does not get there."""
ROUNDS = 5

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> programs.Programs:
    try:
        return programs.compile_all(tmp_path_factory.mktemp("benchmarks"))
    except Failure as failure:
        pytest.skip(str(failure))


@pytest.fixture
def pair(built: programs.Programs, tmp_path: Path) -> Iterator[Device]:
    node = tmp_path / "node"
    with pinned(frozenset(available()[-1:])), Device([built.c_pair, node], str(node)) as device:
        yield device
    assert not node.exists()
    assert str(node) not in Path("/proc/self/mounts").read_text()


def test_ours_beside_the_c_pair(pair: Device, built: programs.Programs, node_kind: str) -> None:
    ratios = []
    with (
        pinned(frozenset(available()[-1:])),
        devices.start("openssl", "--node", node_kind) as ours,
    ):
        for _ in range(ROUNDS):
            one, other = (
                programs.run(built.caller, device.path, size=SIZE, count=400)
                for device in (ours, pair)
            )
            ratios.append(one.p50 / other.p50)
    assert statistics.median(ratios) <= MOST, ratios


def test_the_c_pair_does_the_same_work(pair: Device, openssl_device: Service) -> None:
    data, iv = os.urandom(200_000), os.urandom(16)
    for size in (16, 24, 32):
        key = os.urandom(size)
        encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        right = encryptor.update(data)
        for path in (pair.path, openssl_device.path):
            with CryptoDevice(path) as device, device.cipher("aes-cbc", key) as session:
                assert session.encrypt(data, iv=iv) == right
                assert session.decrypt(right, iv=iv) == data


def test_the_c_pair_checks_what_a_driver_checks(pair: Device, built: programs.Programs) -> None:
    with CryptoDevice(pair.path) as device, pytest.raises(OSError, match="does not offer"):
        device.cipher("3des-cbc", bytes(range(24)))
    with pytest.raises(Failure, match="Invalid argument"):
        programs.run(built.caller, pair.path, size=SIZE + 1)


def test_the_c_pair_ends_in_the_middle_of_operations(
    built: programs.Programs, tmp_path: Path
) -> None:
    node = tmp_path / "node"
    options = {"size": 1 << 20, "count": 1 << 20, "announce": True}
    with Device([built.c_pair, node], str(node)) as device:
        # The back end takes its name once it runs.
        named = ["c_pair", "c_pair backend"]
        eventually(lambda: sorted(resources.family(device.pid).values()) == named)
        words = programs.command(built.caller, device.path, **options)
        with Process(words) as caller:
            assert caller.hear() == "started"
            os.kill(device.pid, signal.SIGTERM)
            with pytest.raises(Failure, match="caller"):
                caller.hear()
        eventually(lambda: not node.exists())
        eventually(lambda: len(resources.family(device.pid)) == 1)


def test_many_callers_of_either_kind(pair: Device, built: programs.Programs) -> None:
    for threads in (False, True):
        options = {"callers": 4, "files": 3, "sessions": 5, "count": 100}
        flags = {"threads": True} if threads else {}
        run = programs.run(built.caller, pair.path, **options, **flags)
        assert run.callers == 4
        assert 0 < run.p50 <= run.p99
        assert run.operations_per_second > 0


@pytest.mark.parametrize("wrong", [["--size", "x"], ["--nothing"], [], ["--cipher", "rot13", "x"]])
def test_a_caller_that_is_misused(built: programs.Programs, wrong: list[str]) -> None:
    done = subprocess.run([built.caller, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: caller" in done.stderr


def test_programs_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match="no C compiler; apt-get install gcc"):
        programs.compile_all(tmp_path)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="/none cannot be started: No such file or directory"):
        Device([tmp_path / "none"], "/dev/none")


def test_memory(built: programs.Programs) -> None:
    cpu = available()[-1]
    rows = sections.memory(sections.Bench(built, [], cpu, frozenset({cpu}), rounds=1)).rows
    assert [row["what"] for row in rows[:3]] == ["up, idle", "backend, idle", "device, idle"]
    assert all(row["met"] for row in rows), rows


def test_tables_of_a_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Row] = [
        {"bytes": 1048576, "ours_us": 1234.5, "c_pair_us": 0.816, "goal": "<= 1", "met": True},
        {"bytes": 16, "ours_us": 23.4, "c_pair_us": 1.0, "goal": None, "met": None},
    ]
    section = Section("By size", "one CPU", rows)
    compare.show(section)
    assert "ours µs" in capsys.readouterr().out
    assert compare.markdown(section).splitlines() == [
        "### By size",
        "",
        "one CPU",
        "",
        "| bytes | ours µs | C pair µs | goal | met |",
        "| ---: | ---: | ---: | ---: | ---: |",
        "| 1,048,576 | 1,234 | 0.82 | <= 1 | yes |",
        "| 16 | 23.4 | 1.00 |  |  |",
    ]
