"""``cuse-crypto bench``: what it prints, what it leaves behind, and its statistics."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from cuse_crypto import extras
from cuse_crypto.bench import plot, report
from cuse_crypto.bench.devices import available
from cuse_crypto.bench.measure import Cell, Result, percentile, summarise
from cuse_crypto.bench.report import Report
from cuse_crypto.bench.subjects import Subject, Work
from cuse_crypto.cli.bench import NumbersType
from cuse_crypto.cli.doctor import _af_alg
from cuse_crypto.errors import Failure
from tests.conftest import Service, StartDevice, children, eventually
from tests.test_cli import one_line, run

QUICK = ["bench", "--quick", "--seconds", "0.3"]


def nodes() -> list[str]:
    return [name for name in os.listdir("/dev") if name.startswith("cryptobench-")]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = nodes()
    yield
    assert set(nodes()) <= set(before)


@pytest.mark.node
def test_json() -> None:
    done = run(*QUICK, "--sizes", "16,64k", "--callers", "1,2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    there = {"no_work", "null", "openssl", "in_process"}
    if _af_alg() is None:
        there.add("af_alg")
    assert there <= set(told["subjects"])
    assert len(told["subjects"]) + len(told["missing"]) == len(there | {"host", "af_alg"})
    cells = {(one["subject"], one["size"], one["callers"]) for one in told["results"]}
    for engine in ("null", "openssl"):
        assert {(engine, size, n) for size in (16, 65536) for n in (1, 2)} <= cells
    assert {("no_work", 0, 1), ("in_process", 16, 1), ("in_process", 65536, 1)} <= cells
    for one in told["results"]:
        taken = one["microseconds"]
        assert 0 < taken["min"] <= taken["p50"] <= taken["max"]
        assert taken["min"] <= taken["p99"] <= taken["max"]
        assert one["count"] >= 3 * one["callers"]
        rate = one["operations_per_second"] * one["size"] / 1e6
        assert one["megabytes_per_second"] == pytest.approx(rate, abs=0.01)
    medians = {
        (one["subject"], one["size"]): one["microseconds"]["p50"]
        for one in told["results"]
        if one["callers"] == 1
    }
    assert medians["in_process", 16] < medians["openssl", 16], "the device costs something"
    for one in told["layers"]:
        parts = one["kernel"] + one["plumbing"] + one["cipher"]
        assert parts == pytest.approx(medians["openssl", one["size"]], abs=0.05)


@pytest.mark.node
def test_table() -> None:
    done = run(*QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert "aes-cbc, 128 bits, CPU " in done.stdout
    for text in ("engine null", "engine openssl", "in process", "MB/s", "64 KiB", "plumbing"):
        assert text in done.stdout


@pytest.mark.node
def test_an_existing_node(openssl_device: Service) -> None:
    options = "--device", str(openssl_device.path), "--sizes", "16", "--cipher", "3des-cbc"
    done = run(*QUICK, *options, "--json")
    told = json.loads(done.stdout)
    assert {one["subject"] for one in told["results"]} == {"no_work", "device"}
    assert "aes-cbc" in told["missing"]["in process"]
    assert told["about"]["key_bits"] == 192
    assert not told["layers"]
    assert "an ioctl without work" in run(*QUICK, *options).stdout


@pytest.mark.skipif(_af_alg() is not None, reason=str(_af_alg()))
def test_af_alg() -> None:
    for name in ("aes-cbc", "aes-ctr", "3des-cbc"):
        Subject("af_alg", "AF_ALG", "kernel").attempt(Work(name, 1 << 20))


@pytest.mark.node
def test_a_node_that_cannot() -> None:
    done = run("bench", "--device", "/dev/no-such-node")
    assert "start one with `cuse-crypto up --name no-such-node`" in one_line(done)
    assert "Inappropriate ioctl" in one_line(run("bench", "--device", "/dev/null"))


@pytest.mark.node
def test_figure(tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    done = run(*QUICK, "--sizes", "16,4k", "--callers", "1,2", "--plot", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{svg}svg"
    text = path.read_text()
    for label in ("engine null", "engine openssl, 2 callers", "in process", "4 KiB", "MB/s"):
        assert f"<!-- {label} -->" in text


@pytest.mark.parametrize(("name", "reason"), [("x.txt", "let it end with"), ("x/y.svg", "create")])
def test_a_figure_that_cannot_be(tmp_path: Path, name: str, reason: str) -> None:
    assert reason in one_line(run("bench", "--plot", str(tmp_path / name)))


def test_no_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=r"a plot takes matplotlib.* -m pip install matplotlib$"):
        plot.check(tmp_path / "x.svg")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sizes", "17"],
        ["--sizes", "16,x"],
        ["--sizes", "2G"],
        ["--callers", "0"],
        ["--cipher", "rot13"],
        ["--cpus", "one"],
        ["--rounds", "0"],
        ["--seconds", "-1"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'{arguments[0]}'" in done.stderr


def test_cpus_that_are_not_there() -> None:
    assert "choose from --cpus" in one_line(run("bench", "--cpus", "4000"))


@pytest.mark.node
def test_progress_is_for_terminals() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cuse_crypto", *QUICK, "--json"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment) as bench:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        assert bench.stdout is not None
        json.load(bench.stdout)
    assert bench.returncode == 0
    assert b"engine openssl, 65536 bytes" in shown
    assert b"100%" in shown


@pytest.mark.node
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
)
def test_an_early_end(number: int, status: int) -> None:
    cpu = available()[0]
    options = ["--cpus", str(cpu), "--callers", "2"]
    command = [sys.executable, "-m", "cuse_crypto", "bench", *options]
    before = nodes()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
        eventually(lambda: len(children(bench.pid)) == 4)  # two devices, two callers
        started = children(bench.pid)
        assert [os.sched_getaffinity(pid) for pid in started] == [{cpu}] * 4
        bench.send_signal(number)
        out, said = bench.communicate(timeout=60)
    assert (out, said.strip()) == (b"", b"")
    assert bench.returncode == status
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in started))
    eventually(lambda: nodes() == before)


@pytest.mark.node
def test_a_device_that_goes_away(start_up: StartDevice) -> None:
    service = start_up("--engine", "null")
    command = [sys.executable, "-m", "cuse_crypto", "bench", "--device", str(service.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as bench:
        eventually(lambda: len(children(bench.pid)) == 4)
        service.stop()
        _, said = bench.communicate(timeout=60)
    assert bench.returncode == 1
    assert said.startswith(f"cuse-crypto: {service.path}, ")
    assert len(said.splitlines()) == 1


CELL = Cell(Subject("null", "engine null", "device"), Work("aes-cbc", 1000), 2)


def test_statistics() -> None:
    quick = [[1000] * 9 + [10_000], [2000] * 10]
    slow = [[100_000], [100_000]]
    result = summarise(CELL, [quick, quick, slow])
    assert (result.min, result.p50, result.p99, result.max) == (1.0, 2.0, 100.0, 100.0)
    assert result.operations == 42
    assert result.operations_per_second == pytest.approx(10 / 19e-6 + 10 / 20e-6)
    assert result.megabytes_per_second == pytest.approx(result.operations_per_second / 1000)


def test_percentiles() -> None:
    numbers = [float(number) for number in range(100)]
    assert [percentile(numbers, share) for share in (0, 0.5, 0.99, 1)] == [0, 50, 99, 99]


def of(subject: str, size: int, p50: float) -> Result:
    return Result(subject, "aes-cbc", size, 1, 10, 1e6 / p50, p50, p50, p50, p50)


def test_layers() -> None:
    results = [of("no_work", 0, 10), of("null", 16, 30), of("openssl", 16, 35), of("null", 32, 40)]
    found = Report([], results, {}, {}).layers()
    assert found == [report.Layers(16, 10, 20, 5)]
    assert found[0].total == 35


@pytest.mark.parametrize(
    ("size", "text"),
    [(16, "16 B"), (1024, "1 KiB"), (1536, "1536 B"), (1 << 20, "1 MiB"), (3 << 19, "1536 KiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert report.human(size) == text


def test_numbers() -> None:
    kind = NumbersType(1 << 20)
    assert kind.convert("4k,16, 1M,16", None, None) == (16, 4096, 1 << 20)
    with pytest.raises(click.BadParameter, match="'2M' is no number from 1 to 1048576"):
        kind.convert("2M", None, None)
