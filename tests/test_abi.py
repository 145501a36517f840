"""The tables of the ABI against the C header as a compiler understands it."""

import subprocess
from collections.abc import Iterator

import pytest

from cuse_crypto.abi import ioctls, structs
from cuse_crypto.abi.algorithms import CIPHERS, MACS, Cipher, Mac
from cuse_crypto.frontend.apis import APIS
from cuse_crypto.layout import Layout, Width
from tests.conftest import HERE, Compile

STRUCTS = [
    structs.session_op,
    structs.crypt_op,
    structs.crypt_auth_op,
    structs.cphash_op,
]


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
    algorithms: list[Cipher | Mac] = [*CIPHERS.values(), *MACS.values()]
    rows = {f"constant {row.name} {row.id}" for row in algorithms}
    for prefix, names in (("COP", structs.Cop), ("COP_FLAG", structs.CopFlag)):
        numbers = {name: value for name, value in vars(names).items() if name.isupper()}
        rows |= {f"constant {prefix}_{name} {value}" for name, value in numbers.items()}
    for name in ("CRYPTO_CIPHER_MAX_KEY_LEN", "CRYPTO_HMAC_MAX_KEY_LEN", "EALG_MAX_BLOCK_LEN"):
        rows.add(f"constant {name} {getattr(structs, name)}")
    assert rows <= report


def test_session_info(width: Width, report: set[str]) -> None:
    """The header nests two ``struct alg_info``, which are flat here."""
    layout = Layout(structs.session_info_op, width)
    size = structs.CRYPTODEV_MAX_ALG_NAME
    assert f"struct session_info_op {layout.size} {layout.align}" in report
    for field in layout.fields:
        if field.name.endswith("_name"):
            row = f"{field.name.removesuffix('_name')}_info {field.offset} {2 * size}"
        elif field.name.endswith("_driver"):
            continue
        else:
            row = f"{field.name} {field.offset} {field.size}"
        assert f"field session_info_op {row}" in report
    assert f"field alg_info cra_driver_name {size} {size}" in report


def test_numbers_of_the_driver() -> None:
    """Where its 32-bit numbers are not those of the header."""
    rows = {row.name: row for row in ioctls.IOCTLS}
    assert rows["CIOCASYNCCRYPT"].numbers(32) == {0x401C636E, 0x401C636B}
    assert rows["CIOCASYNCFETCH"].numbers(32) == {0x801C636F, 0x801C636C}
    assert rows["CIOCASYNCCRYPT"].numbers(64) == {0x4030636E}


def test_every_row_has_a_method() -> None:
    for rows, calls in APIS.values():
        for row in rows:
            assert callable(getattr(calls, row.name))


def test_segments_name_members() -> None:
    for row in ioctls.IOCTLS:
        for segment in (*row.readable, *row.writable):
            assert segment.pointer in row.argument._fields
            assert segment.length in (*row.argument._fields, "iv_size", "digest_size")


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
        (24, 0, "00" * 16, "11" * 37, "22" * 16 + "33" * 21, "33" * 16),
        (24, 1, "0f" * 16, "11" * 5, "22" * 5, "0f" * 16),
        (25, 0, "00" * 16, "11" * 32, "22" * 16 + "31" * 16, "20" * 16),
        (22, 0, "0f" * 16, "11" * 32, "22" * 32, "0f" * 16),
        (50, 0, "0f" * 12, "11" * 32, "22" * 48, "0f" * 12),
        (51, 0, "03" + "0f" * 15, "11" * 64, "22" * 80, "03" + "0f" * 11 + "00000005"),
        (51, 1, "03" + "0f" * 15, "11" * 64, "22" * 80, "03" + "0f" * 15),
    ],
)
def test_next_iv(number: int, op: int, iv: str, src: str, dst: str, expected: str) -> None:
    following = CIPHERS[number].next_iv(op, *map(bytes.fromhex, (iv, src, dst)))
    assert following == bytes.fromhex(expected)
