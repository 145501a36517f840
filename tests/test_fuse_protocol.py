"""The kernel's protocol: rows of bytes as a real kernel sent them, and bytes that nobody sent."""

import contextlib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuse_crypto.fuse import protocol
from cuse_crypto.fuse.protocol import Opcode, ProtocolError, Request, decode

# What Linux 6.18 sent for a mounted node, field by field, little endian.
INIT = (
    "68000000 1a000000 0200000000000000 0000000000000000"  # len opcode unique nodeid
    "00000000 00000000 00000000 0000 0000"  # uid gid pid total_extlen padding
    "07000000 2d000000 00000200 fbffff73"  # major minor max_readahead flags
    "fd050000" + "00" * 44  # members of a later protocol
)
OPEN = (
    "30000000 0e000000 0600000000000000 0100000000000000"
    "00000000 00000000 42680000 0000 0000"
    "02800000 00000000"  # flags (O_RDWR|O_LARGEFILE) open_flags
)
IOCTL = (
    "78000000 27000000 0a00000000000000 0100000000000000"
    "00000000 00000000 42680000 0000 0000"
    "0100000000000000 00000000 686330c0"  # fh flags cmd
    "20fbdb52fc7f0000 30000000 30000000"  # arg in_size out_size
    + "00"
    * 48  # the structure, copied by the kernel
)
POLL = (
    "40000000 28000000 0800000000000000 0100000000000000"
    "00000000 00000000 42680000 0000 0000"
    "0100000000000000 0100000000000000 01000000 1f000000"  # fh kh flags events
)
INTERRUPT = (
    "30000000 24000000 0b00000000000000 0000000000000000"
    "00000000 00000000 00000000 0000 0000"
    "0a00000000000000"  # unique of the request to give up
)
RELEASE = (
    "40000000 12000000 0e00000000000000 0100000000000000"
    "00000000 00000000 00000000 0000 0000"
    "0100000000000000 02800000 00000000 0000000000000000"  # fh flags release_flags lock_owner
)
# And Linux 6.1 for a cuse node.
CUSE_INIT = (
    "38000000 00100000 0200000000000000 0000000000000000"
    "00000000 00000000 00000000 0000 0000"
    "07000000 25000000 00000000 01000000"
)


def request(text: str) -> Request:
    return decode(memoryview(bytes.fromhex(text)))


def test_init() -> None:
    init = request(INIT)
    assert init.opcode.name == "FUSE_INIT"
    assert (init.body.major, init.body.minor) == (7, 45)
    reply = protocol.layouts("FUSE_INIT")[1].read(protocol.init_reply(init.body))
    assert (reply.major, reply.minor) == (7, protocol.FUSE_KERNEL_MINOR_VERSION)
    assert reply.max_write == protocol.MAX_TRANSFER
    assert len(protocol.init_reply(init.body)) == 64


def test_open() -> None:
    opened = request(OPEN)
    assert (opened.opcode.name, opened.header.pid) == ("FUSE_OPEN", 0x6842)
    assert opened.body.flags == 0x8002


def test_ioctl() -> None:
    ioctl = request(IOCTL)
    assert ioctl.opcode.name == "FUSE_IOCTL"
    assert ioctl.body.cmd == 0xC0306368
    assert (ioctl.body.in_size, len(ioctl.payload)) == (48, 48)


def test_poll_and_release() -> None:
    assert (request(POLL).body.kh, request(POLL).body.events) == (1, 0x1F)
    assert (request(RELEASE).body.fh, request(RELEASE).header.pid) == (1, 0)


def test_interrupt() -> None:
    assert request(INTERRUPT).body.unique == request(IOCTL).header.unique


def test_cuse_init() -> None:
    init = request(CUSE_INIT)
    reply = protocol.cuse_init_reply(init.body, "cryptodev0")
    assert reply[72:] == b"DEVNAME=cryptodev0\0"
    flags = protocol.layouts("CUSE_INIT")[1].read(reply).flags
    assert flags == protocol.CUSE_UNRESTRICTED_IOCTL


@pytest.mark.parametrize(("major", "minor"), [(6, 40), (7, 15), (8, 0)])
def test_other_versions_are_refused(major: int, minor: int) -> None:
    with pytest.raises(ProtocolError, match=f"{major}.{minor}"):
        protocol.init_reply(protocol.fuse_init_in(major, minor, 0, 0))


def test_unknown_opcode_is_a_request_all_the_same() -> None:
    unknown = request(OPEN.replace("0e000000", "e7030000", 1))
    assert unknown.opcode == Opcode(999, "opcode 999")
    assert unknown.opcode.unhandled == errno.ENOSYS


@pytest.mark.parametrize("text", [INIT, OPEN, IOCTL, POLL, INTERRUPT, RELEASE, CUSE_INIT])
def test_every_cut_is_an_error(text: str) -> None:
    whole = bytes.fromhex(text)
    for size in range(len(whole)):
        with pytest.raises(ProtocolError):
            decode(memoryview(whole[:size]))
        # A length that agrees with the cut does not make the body whole.
        cut = size.to_bytes(4, "little") + whole[4:size]
        if protocol.IN_HEADER.size <= size < protocol.IN_HEADER.size + 8:
            with pytest.raises(ProtocolError):
                decode(memoryview(cut))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_the_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(memoryview(data))


@given(st.binary(min_size=36, max_size=160))
def test_any_body_is_a_request_or_the_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(memoryview((len(data) + 4).to_bytes(4, "little") + data))


def test_replies() -> None:
    assert b"".join(protocol.encode_reply(6, 0, b"ab", b"c")) == (
        bytes.fromhex("13000000 00000000 0600000000000000") + b"abc"
    )
    assert b"".join(protocol.encode_reply(6, errno.EINVAL, b"ignored")) == (
        bytes.fromhex("10000000 eaffffff 0600000000000000")
    )
