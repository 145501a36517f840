"""What the real driver answers, row by row, asked by C programs of both widths."""

import subprocess

import pytest

from cuse_crypto.layout import Width
from tests.conftest import HERE, Compile, Service, StartDevice

pytestmark = pytest.mark.node

PROGRAMS = HERE / "c"
CONFORM = sorted(path.stem for path in PROGRAMS.glob("conform_*.c"))
FLAGS: dict[Width, list[str]] = {
    64: ["-pthread"],
    32: ["-pthread", "-m32", "-D_FILE_OFFSET_BITS=64"],
}
SECONDS = 300  # for emulation; without it a program takes a few


@pytest.mark.parametrize("width", [64, 32])
@pytest.mark.parametrize("name", CONFORM)
def test_conformance(openssl_device: Service, compile_c: Compile, name: str, width: Width) -> None:
    program = compile_c(PROGRAMS / f"{name}.c", *FLAGS[width])
    ask(program, openssl_device, at_least=20)


@pytest.mark.parametrize("width", [64, 32])
def test_careless_caller(openssl_device: Service, compile_c: Compile, width: Width) -> None:
    careless(openssl_device, compile_c, width)


@pytest.mark.parametrize("width", [64, 32])
def test_careless_caller_with_memory_by_retry(
    start_up: StartDevice, compile_c: Compile, width: Width, node_kind: str
) -> None:
    """The kernel copies for us: the same answers, for operations of up to 128 KiB."""
    if node_kind != "cuse":
        pytest.skip("the kernel lets only a cuse node retry")
    service = start_up("--engine", "openssl", "--memory", "retry")
    careless(service, compile_c, width, "-DSMALL_ONLY")
    assert service.stop() == 0


def careless(service: Service, compile_c: Compile, width: Width, *options: str) -> None:
    program = compile_c(PROGRAMS / "careless.c", *FLAGS[width], *options)
    neighbour = compile_c(PROGRAMS / "hammer.c")
    beside = subprocess.Popen(
        [neighbour, service.path, "1", "2000", "256"], stdout=subprocess.DEVNULL
    )
    try:
        ask(program, service, at_least=300)
    finally:
        disturbed = beside.wait(timeout=SECONDS)
    assert disturbed == 0, "the careless program disturbed another caller"


def ask(program: object, service: Service, *, at_least: int) -> None:
    """Run a program of tests/c/check.h; every line of it must be ok, and there must be many."""
    done = subprocess.run(
        [str(program), str(service.path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    lines = done.stdout.splitlines()
    failures = [line for line in lines if not line.startswith("ok ")]
    assert (done.returncode, done.stderr) == (0, ""), "\n".join([*failures, done.stderr])
    assert len(lines) > at_least
