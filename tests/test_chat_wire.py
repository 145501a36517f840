"""The chat's codecs: there and back, cut, changed; and against chat/WIRE.md."""

import contextlib
import itertools
import re
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuse_crypto_chat import classic, frames, records, secret
from cuse_crypto_chat.frames import Frame, FrameReader, FrameType, PeerError, Welcome
from cuse_crypto_chat.records import HEADER, KINDS, NOBODY, Body, Kind, RecordError
from tests.conftest import PROJECT

STREAM, OTHER = bytes(range(16)), bytes(range(16, 32))
DOCUMENT = (PROJECT / "chat" / "WIRE.md").read_text()
each_type = pytest.mark.parametrize("row", frames.TYPES.values(), ids=lambda row: row.name)
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def sender_of(row: FrameType) -> frames.End:
    return "member" if row.sender == "both" else row.sender


# Frames


@each_type
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_frames_there_and_back(row: FrameType, step: int) -> None:
    sizes = row.least, row.most
    data = b"".join(frames.pack(row.name, bytes(size), 7) for size in sizes)
    step = max(step, len(data) // 1000)
    reader = FrameReader(sender_of(row))
    found = [one for at in range(0, len(data), step) for one in reader.feed(data[at : at + step])]
    assert found == [Frame(row.name, 7, bytes(size)) for size in sizes]


@each_type
def test_frames_that_are_none(row: FrameType) -> None:
    for length in (row.least - 1, row.most + 1, 0xFFFFFFFF):
        if length >= 0:
            header = frames.HEADER.pack(length, row.number, 0)
            with pytest.raises(PeerError, match=row.name):
                list(FrameReader(sender_of(row)).feed(header))
    if row.sender != "both":
        other: frames.End = "member" if row.sender == "server" else "server"
        with pytest.raises(PeerError):
            list(FrameReader(other).feed(frames.pack(row.name, bytes(row.least))))


@given(st.binary(max_size=100), st.sampled_from(["member", "server"]))
def test_any_bytes_are_frames_or_the_error(data: bytes, sender: frames.End) -> None:
    with contextlib.suppress(PeerError):
        for frame in FrameReader(sender).feed(data):
            assert frame.name in frames.BY_NAME


def test_joining() -> None:
    (frame,) = FrameReader("member").feed(frames.pack_join())
    frames.check_join(frame.payload)
    for wrong in (struct.pack(">8sH", b"cusechat", 2), struct.pack(">8sH", b"cusechas", 1)):
        with pytest.raises(PeerError):
            frames.check_join(wrong)


def test_welcome() -> None:
    for members in ((), (1, 2, 300)):
        welcome = Welcome(5, 15, members)
        (frame,) = FrameReader("server").feed(frames.pack_welcome(welcome))
        assert frames.unpack_welcome(frame) == welcome
        for payload in (
            b"\0\2" + frame.payload[2:],
            frame.payload[:2] + b"\0\0" + frame.payload[4:],
            frame.payload[:2] + b"\1\x2d" + frame.payload[4:],
            frame.payload[:4] + b"\0\0\0\0" + frame.payload[8:],
            frame.payload + b"\0",
        ):
            with pytest.raises(PeerError):
                frames.unpack_welcome(frame._replace(payload=payload))


def test_reasons_are_cut_between_characters() -> None:
    (frame,) = FrameReader("server").feed(frames.pack_reason("BYE", "é" * 1000 + "x"))
    assert frame.payload.decode() == "é" * 256


# Records


def example(kind: Kind) -> Body:
    values: dict[str, Any] = {"instance": OTHER, "name": "alice", "text": "é" * 300}
    body: Body = kind.body(*[values.get(name, 5) for name in kind.fields])
    return body


def sealed(kind: Kind) -> tuple[bytes, bytes, bytes]:
    """A record with a body that is not really sealed; its nonce, and the body."""
    to = OTHER if kind.direct else NOBODY
    opened = records.prepare(example(kind), STREAM, 9, to)
    return opened.header + opened.plain + bytes(records.TAG_SIZE), opened.nonce, opened.plain


@each_kind
def test_records_there_and_back(kind: Kind) -> None:
    record, nonce, plain = sealed(kind)
    header, found = records.read_header(record)
    assert found == nonce == struct.pack(">IQ", kind.direct, 9)
    assert (header.stream, header.sequence, header.kind) == (STREAM, 9, kind.number)
    assert records.read_body(header, plain) == example(kind)
    assert len(plain) in records.SIZES


@each_kind
def test_records_that_are_none(kind: Kind) -> None:
    record, _, plain = sealed(kind)
    header, _ = records.read_header(record)
    for wrong in (
        header._replace(version=2),
        header._replace(kind=0),
        header._replace(kind=7),
        header._replace(reserved=1),
        header._replace(to=NOBODY if kind.direct else OTHER),
    ):
        with pytest.raises(RecordError):
            records.read_header(HEADER.pack(*wrong) + record[HEADER.size :])
    for size in (0, HEADER.size, len(record) - 1, len(record) + 1):
        with pytest.raises(RecordError):
            records.read_header(record[:size].ljust(size, b"\0"))
    for body in (
        struct.pack(">I", len(plain)) + plain[4:],
        struct.pack(">I", 0) + plain[4:],
        plain[:-1] + b"\1",
    ):
        with pytest.raises(RecordError):
            records.read_body(header, body)


def test_texts_that_are_no_text() -> None:
    kind = records.BY_BODY[records.Text]
    header = records.Header(1, kind.number, 0, 0, STREAM, NOBODY)
    body = struct.pack(">IQQ", 17, 0, 1) + b"\xff"
    with pytest.raises(RecordError, match="UTF-8"):
        records.read_body(header, body.ljust(256, b"\0"))


def test_sizes() -> None:
    fixed = records.BY_BODY[records.Text].fixed.size + records.LENGTH.size
    for size, padded in ((256 - fixed, 256), (257 - fixed, 1024), (65536, 66048)):
        opened = records.prepare(records.Text(0, 1, "x" * size), STREAM, 0)
        assert len(opened.plain) == padded
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        records.prepare(records.Text(0, 1, "x" * 65537), STREAM, 0)


@given(st.sampled_from(list(KINDS.values())), st.data())
def test_changed_records_are_records_or_the_error(kind: Kind, data: st.DataObject) -> None:
    record = bytearray(sealed(kind)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, 80))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RecordError):
        header, _ = records.read_header(bytes(record))
        records.read_body(header, bytes(record[HEADER.size : -records.TAG_SIZE]))


# Keys


def test_keys_differ_by_all_that_goes_in() -> None:
    keys = {
        secret.sender_key(room, stream)
        for room in (bytes(32), bytes([1] * 32))
        for stream in (STREAM, OTHER)
    }
    assert {len(key) for key in keys} == {32}
    assert len(keys) == 4


def test_room_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "SCRYPT_N", 2)
    made = [("one secret", "a"), ("one secret", "b"), ("two secrets", "a")]
    keys = {secret.room_key(bytearray(shared, "ascii"), room) for shared, room in made}
    assert len(keys) == 3


# The classic wire


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("", [""]),
        ("x" * 254, ["x" * 254]),
        ("x" * 255, ["x" * 254, "x"]),
        ("é" * 200, ["é" * 127, "é" * 73]),
        ("x" + "é" * 127, ["x" + "é" * 126, "é"]),
    ],
)
def test_classic_lines(line: str, pieces: list[str]) -> None:
    messages = list(classic.messages(line))
    assert {len(one) for one in messages} == {256}
    assert [classic.text(one) for one in messages] == pieces
    assert all(one.rstrip(b"\0").endswith(b"\n") for one in messages)


@pytest.mark.parametrize("step", [1, 100, 255, 256, 257, 2000])
def test_classic_messages_in_pieces(step: int) -> None:
    messages = [bytes([number]) * 256 for number in range(5)]
    data = b"".join(messages)
    assembler = classic.Assembler()
    found = [
        one for at in range(0, len(data), step) for one in assembler.feed(data[at : at + step])
    ]
    assert found == messages
    assembler.end()
    assembler.feed(b"x")
    with pytest.raises(classic.CutMessage):
        assembler.end()


@given(st.binary(min_size=256, max_size=256))
def test_any_classic_message_is_text(message: bytes) -> None:
    assert len(classic.text(message).encode()) <= 3 * 256


# The document


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the tables with this heading."""
    for table in re.findall(re.escape(heading) + r"\n\|[-|]+\n((?:\|.*\n)+)", DOCUMENT):
        for line in table.splitlines():
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_document_frames() -> None:
    coded = [[str(value) for value in row] for row in frames.TYPES.values()]
    assert list(rows("| type | name | sender | least | most |")) == coded


def test_document_records() -> None:
    coded = []
    for kind in KINDS.values():
        sizes = [int(size[:-1]) if size.endswith("s") else 8 for size in codes(kind)]
        names = list(kind.fields)
        body = [f"{name} {size}" for name, size in zip(names, sizes, strict=False)]
        body += names[len(sizes) :]
        circle = "one" if kind.direct else "room"
        coded.append([str(kind.number), kind.name, circle, ", ".join(body)])
    assert list(rows("| kind | name | for | body |")) == coded


def codes(kind: Kind) -> list[str]:
    return re.findall(r"\d+s|Q", "".join(f"{kind.fixed.format[1:]}".replace("QQ", "Q Q")))


def test_document_headers() -> None:
    fields = [row[:3] for row in rows("| field | offset | size | |")]
    assert fields[:3] == [["length", "0", "4"], ["type", "4", "1"], ["member", "8", "4"]]
    assert frames.HEADER.size == 12
    assert [row[0] for row in fields[3:]] == list(records.Header._fields)
    offsets = [int(row[1]) for row in fields[3:]] + [HEADER.size]
    sizes = [after - before for before, after in itertools.pairwise(offsets)]
    assert sizes == [int(row[2]) for row in fields[3:]]


def test_document_numbers() -> None:
    from cuse_crypto_chat import members, session

    text = " ".join(DOCUMENT.split())
    sizes = ", ".join(map(str, records.SIZES[:-1])) + f" or {records.SIZES[-1]}"
    for fact in (
        f"as {sizes} bytes",
        f"at most {records.MAX_TEXT} bytes",
        f"N {secret.SCRYPT_N}, r {secret.SCRYPT_R}, p {secret.SCRYPT_P}",
        f"at least {secret.MIN_SECRET} bytes",
        f'"{secret.ROOM_LABEL[:-1].decode()}" 0',
        f'"{secret.SENDER_LABEL.decode()}"',
        f"nothing for {session.ALIVE:.0f} s sends ALIVE",
        f"nothing came for {members.SILENCE:.0f} s",
        f"up to {session.FAREWELL:.0f} s",
        f"`{frames.MAGIC.decode()}`",
        f"at most {classic.LINE_SIZE} bytes, a newline",
    ):
        assert fact in text, fact
