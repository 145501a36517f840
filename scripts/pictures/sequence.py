"""The way of one ioctl, as strace(1) sees it: who calls what, and how many bytes go along."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from scripts.pictures import speed
from scripts.pictures.lanes import picture

CALLER, KERNEL, FRONT_END, BACK_END = LANES = ("caller", "kernel", "front end", "back end")
SIZE, WARM_UP = 256, 20
SECONDS = 30.0
CALLS = "ioctl,read,write,readv,writev,process_vm_readv,process_vm_writev"

CALLER_PROGRAM = f"""
import sys
from cuse_crypto import CryptoDevice
with CryptoDevice(sys.argv[1]) as device, device.cipher("aes-cbc", bytes(16)) as session:
    for _ in range({WARM_UP}):
        session.encrypt(bytes({SIZE}), iv=bytes(16))
    print("ready", flush=True)
    sys.stdin.readline()
    session.encrypt(bytes({SIZE}), iv=bytes(16))
    print("done", flush=True)
    sys.stdin.readline()
"""


class Step(NamedTuple):
    """An arrow: something goes from ``source`` to ``target`` by this system call."""

    source: str
    target: str
    call: str
    what: str


MEANING = {
    (FRONT_END, "readv"): (KERNEL, FRONT_END, "FUSE_IOCTL, {0} bytes"),
    (FRONT_END, "process_vm_readv"): (CALLER, FRONT_END, "iv {1}, src {2}"),
    (FRONT_END, "write"): (FRONT_END, BACK_END, "the message's head, {0}"),
    (BACK_END, "write"): (BACK_END, FRONT_END, "the reply's head, {0}"),
    (FRONT_END, "process_vm_writev"): (FRONT_END, CALLER, "dst {1}, iv {2}, structure {3}"),
    (FRONT_END, "writev"): (FRONT_END, KERNEL, "the reply, {0}"),
}
"""By process and call: the arrow, and what goes: {0} is all bytes, {1} and so on are its parts."""
COMPUTES = Step(BACK_END, BACK_END, "AES-128-CBC", "src to dst, both in shared memory")
"""Between two arrows; no system call."""


class Call(NamedTuple):
    """A line of strace's, or the two that another process tore apart."""

    pid: int
    name: str
    arguments: str
    result: int | None
    began: float
    ended: float


def calls(trace: str) -> Iterator[Call]:
    """Those of a trace with -f and -ttt that were completed."""
    open_calls: dict[int, tuple[float, str]] = {}
    for line in trace.splitlines():
        pid, moment, text = line.split(None, 2)
        began = float(moment)
        if text.endswith("<unfinished ...>"):
            open_calls[int(pid)] = began, text.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", text):
            began, start = open_calls.pop(int(pid), (began, ""))
            text = start + text[resumed.end() :]
        if whole := re.fullmatch(r"(\w+)\((.*)\)\s+= (-?\d+).*", text):
            arguments, result = whole[2], int(whole[3])
            yield Call(int(pid), whole[1], arguments, result, began, float(moment))


def steps(trace: str, processes: dict[int, str]) -> list[Step]:
    """What happened between the beginning and the end of the caller's ioctl, in order."""
    found = [(one, processes[one.pid]) for one in calls(trace) if one.pid in processes]
    asked = next(one for one, who in found if (who, one.name) == (CALLER, "ioctl"))
    arrows = [(asked.began, Step(CALLER, KERNEL, "ioctl", "CIOCCRYPT, and a pointer"))]
    for one, who in found:
        if (who, one.name) in MEANING and asked.began < one.ended and one.began < asked.ended:
            source, target, what = MEANING[who, one.name]
            # The peer may answer before whoever wrote is told that it did.
            moment = one.began if "write" in one.name else one.ended
            step = Step(source, target, one.name, what.format(one.result, *_parts(one.arguments)))
            arrows.append((moment, step))
    arrows.sort()
    ordered = [step for _, step in arrows]
    answer = next(place for place, step in enumerate(ordered) if step.source == BACK_END)
    return [*ordered[:answer], COMPUTES, *ordered[answer:], Step(KERNEL, CALLER, "", "returns 0")]


def _parts(arguments: str) -> list[str]:
    """The lengths of the caller's memory: of the last vector there is."""
    vector = arguments.rpartition("[{")[2]
    return re.findall(r"iov_len=(\d+)", vector)


def observe() -> list[Step]:
    """Trace one operation on a device of our own; takes root and strace."""
    name = f"cryptopicture-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        address, trace = f"unix:{folder}/socket", Path(folder, "trace")
        command = [sys.executable, "-m", "cuse_crypto"]
        listen = ["backend", "--listen", address, "--engine", "openssl"]
        device = ["device", "--backend", address, "--name", name, "--node", "mounted"]
        back_end = stack.enter_context(_running([*command, *listen], "ready: "))
        front_end = stack.enter_context(_running([*command, *device], "ready: "))
        script = [sys.executable, "-c", CALLER_PROGRAM, f"/dev/{name}"]
        caller = stack.enter_context(_running(script, "ready"))
        traced = {back_end.pid: BACK_END, front_end.pid: FRONT_END, caller.pid: CALLER}
        _trace(traced, trace, caller)
        threads = _threads(traced)
        return steps(trace.read_text(), threads)


@contextlib.contextmanager
def _running(command: list[str], ready: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    try:
        if not process.stdout.readline().startswith(ready):
            raise SystemExit(f"not ready: {process.stderr.read()}")
        yield process
    finally:
        process.terminate()
        process.wait(SECONDS)
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def _trace(traced: dict[int, str], trace: Path, caller: subprocess.Popen[str]) -> None:
    """Have the caller make its one operation under strace."""
    assert caller.stdin
    assert caller.stdout
    attach = [option for pid in traced for option in ("-p", str(pid))]
    options = ["-f", "-ttt", "-s", "4", "-e", f"trace={CALLS}", "-o", str(trace)]
    strace = subprocess.Popen(["strace", *options, *attach], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + SECONDS
        while not all(_is_traced(thread) for thread in _threads(traced)):
            if strace.poll() is not None or time.monotonic() > end:
                raise SystemExit("strace does not get at the processes; run this as root")
            time.sleep(0.01)
        caller.stdin.write("\n")
        caller.stdin.flush()
        caller.stdout.readline()
    finally:
        strace.terminate()
        strace.wait(SECONDS)


def _threads(traced: dict[int, str]) -> dict[int, str]:
    return {
        int(thread): who
        for pid, who in traced.items()
        for thread in os.listdir(f"/proc/{pid}/task")
    }


def _is_traced(thread: int) -> bool:
    return "\nTracerPid:\t0\n" not in Path(f"/proc/{thread}/status").read_text()


def described(path: Path) -> list[str]:
    """The steps that a picture shows, in words."""
    root = ElementTree.parse(path).getroot()
    return (root.findtext("{http://www.w3.org/2000/svg}desc") or "").strip().splitlines()


def in_words(found: list[Step]) -> list[str]:
    """A line each, as a picture keeps them."""
    return [f"{one.source} -> {one.target}: {one.call} {one.what}" for one in found]


def draw(path: Path) -> None:
    """Observe an operation, and draw it. The time is the measured one: strace costs more."""
    found = observe()
    measured = next(row for row in speed.table(speed.SIZES) if row["bytes"] == SIZE)
    title = f"One CIOCCRYPT of {SIZE} bytes, which takes {measured['ours µs']:.0f} µs"
    arrows = [(one.source, one.target, one.call, one.what) for one in found]
    path.write_text(picture(title, LANES, arrows, "\n".join(in_words(found))))
