"""The tables of the ABI against the C header as a compiler understands it."""

import subprocess
from collections.abc import Iterator

import pytest

from cuse_crypto.abi import ioctls, structs
from cuse_crypto.abi.algorithms import CIPHERS
from cuse_crypto.layout import Layout, Width
from tests.conftest import HERE, Compile

STRUCTS = [structs.session_op, structs.crypt_op]


@pytest.fixture(params=[64, 32])
def width(request: pytest.FixtureRequest) -> Width:
    chosen: Width = request.param
    return chosen


@pytest.fixture
def report(width: Width, compile_c: Compile) -> set[str]:
    """What the compiler says, a row a line."""
    program = compile_c(HERE / "c" / "abi_report.c", *(["-m32"] if width == 32 else []))
    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return set(output.splitlines())


def struct_rows(width: Width) -> Iterator[str]:
    for record in STRUCTS:
        layout: Layout[tuple[int, ...]] = Layout(record, width)
        name = record.__name__
        yield f"struct {name} {layout.size} {layout.align}"
        for field in layout.fields:
            yield f"field {name} {field.name} {field.offset} {field.size}"


def test_structs(width: Width, report: set[str]) -> None:
    assert set(struct_rows(width)) <= report


def test_ioctl_numbers(width: Width, report: set[str]) -> None:
    rows = {f"ioctl {row.name} {row.number(width):#x}" for row in ioctls.IOCTLS}
    assert rows <= report


def test_constants(report: set[str]) -> None:
    rows = {f"constant {row.name} {row.id}" for row in CIPHERS.values()}
    rows |= {f"constant COP_{member.name} {member.value}" for member in structs.Cop}
    rows |= {f"constant COP_FLAG_{member.name} {member.value}" for member in structs.CopFlag}
    for name in ("CRYPTO_CIPHER_MAX_KEY_LEN", "CRYPTO_HMAC_MAX_KEY_LEN", "EALG_MAX_BLOCK_LEN"):
        rows.add(f"constant {name} {getattr(structs, name)}")
    assert rows <= report


def test_segments_name_members() -> None:
    for row in ioctls.IOCTLS:
        for segment in (*row.readable, *row.writable):
            assert segment.pointer in row.argument._fields
            assert segment.length in row.argument._fields or segment.length == "iv_size"


@pytest.mark.parametrize(
    ("number", "op", "iv", "src", "dst", "expected"),
    [
        (11, 0, "00" * 16, "11" * 32, "22" * 16 + "33" * 16, "33" * 16),
        (11, 1, "00" * 16, "11" * 16 + "44" * 16, "22" * 32, "44" * 16),
        (2, 0, "00" * 8, "11" * 8, "55" * 8, "55" * 8),
        (21, 0, "00" * 15 + "01", "11" * 32, "22" * 32, "00" * 15 + "03"),
        (21, 0, "00" * 16, "11" * 5, "22" * 5, "00" * 15 + "01"),
        (21, 1, "ff" * 16, "11" * 32, "22" * 32, "00" * 15 + "01"),
        (23, 0, "", "11" * 32, "22" * 32, ""),
    ],
)
def test_next_iv(number: int, op: int, iv: str, src: str, dst: str, expected: str) -> None:
    following = CIPHERS[number].next_iv(op, *map(bytes.fromhex, (iv, src, dst)))
    assert following == bytes.fromhex(expected)
