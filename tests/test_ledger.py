"""The ledger: what one front end writes, the next one reads, and nothing else."""

import os

import pytest

from cuse_crypto.abi.algorithms import CIPHERS, MACS
from cuse_crypto.abi.structs import crypt_op
from cuse_crypto.frontend import ledger as ledgers
from cuse_crypto.frontend.asynchronous import Fetch
from cuse_crypto.frontend.files import MAX_JOBS, Job, OpenFiles
from cuse_crypto.frontend.ledger import DOUBTFUL, HASHING, USED, Ledger, LedgerError
from cuse_crypto.frontend.limits import SESSIONS, Limits

AES_CBC, HMAC, HASH = CIPHERS[11], MACS[18], MACS[104]


def next_one(files: OpenFiles) -> OpenFiles:
    """What a successor finds."""
    found = OpenFiles(Limits(), Ledger(os.dup(files.ledger.fd)))
    found.restore()
    return found


@pytest.fixture
def files() -> OpenFiles:
    return OpenFiles(Limits(), Ledger())


def test_files_and_sessions_are_found_again(files: OpenFiles) -> None:
    first, second = files.open(7), files.open(8)
    session = second.new_session(AES_CBC, HMAC, b"k" * 16, b"m" * 300)
    session.iv = b"i" * 16
    session.save()
    found = next_one(files)
    assert {file.fh: file.account.uid for file in found} == {first.fh: 7, second.fh: 8}
    (again,) = found.sessions()
    assert (again.ses, again.cipher, again.mac, again.iv) == (session.ses, AES_CBC, HMAC, b"i" * 16)
    assert again.keys() == (bytearray(b"k" * 16), bytearray(b"m" * 300))
    assert found[second.fh].sessions == {session.ses: again}
    assert found.open(7).fh > second.fh


def test_what_does_not_count_is_not_found(files: OpenFiles) -> None:
    file = files.open()
    file.new_session(AES_CBC, None, b"k" * 16, b"")
    ended = file.new_session(None, HMAC, b"", b"m" * 20)
    ended.save()
    ended.end()
    orphan = files.open()
    orphan.new_session(AES_CBC, None, b"o" * 16, b"").save()
    files.release(orphan.fh)
    found = next_one(files)
    assert [one.fh for one in found] == [file.fh]
    assert not list(found.sessions())
    everything = bytes(files.ledger.view)
    assert not any(key * 16 in everything for key in (b"k", b"m", b"o"))


def test_a_hash_under_way_is_doubtful(files: OpenFiles) -> None:
    session = files.open().new_session(None, HASH, b"", b"")
    session.save()
    session.hash_begins()
    (found,) = next_one(files).sessions()
    assert found.hashing
    assert found.doubtful
    assert files.ledger.state(session.at)[1] == HASHING
    session.doubtful = True
    session.save()
    assert files.ledger.state(session.at)[:2] == (USED, DOUBTFUL)


def test_results_and_pollers_are_noted(files: OpenFiles) -> None:
    file, idle = files.open(), files.open()
    file.poll(77)
    file.jobs.append(Job(crypt_op(), 0, b"", b""))
    file.note_jobs()
    found = next_one(files)
    assert (found[file.fh].lost, found[file.fh].pollers) == (True, {77})
    assert (found[idle.fh].lost, found[idle.fh].pollers) == (False, set())
    file.jobs.clear()
    file.note_jobs(1)
    assert next_one(files)[file.fh].lost, "one is being fetched"
    Fetch(file).save()
    assert not next_one(files)[file.fh].lost
    assert MAX_JOBS > 1


def test_slots_are_used_again(files: OpenFiles) -> None:
    file = files.open()
    slots = set()
    for _ in range(100):
        session = file.new_session(AES_CBC, None, b"k" * 16, b"")
        slots.add(session.at)
        session.end()
    assert len(slots) == 1


def test_limits_count_what_was_there(files: OpenFiles) -> None:
    file = files.open(5)
    for _ in range(3):
        file.new_session(AES_CBC, None, b"k" * 16, b"").save()
    found = OpenFiles(Limits({SESSIONS: 3}), Ledger(os.dup(files.ledger.fd)))
    found.restore()
    with pytest.raises(OSError, match="max-sessions"):
        found[file.fh].account.take(SESSIONS)


def test_no_room(files: OpenFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    file = files.open()
    monkeypatch.setattr(files.ledger, "_short", Empty())
    with pytest.raises(OSError, match="no room"):
        file.new_session(AES_CBC, None, b"k" * 16, b"")
    monkeypatch.setattr(files.ledger, "files", Empty())
    with pytest.raises(OSError, match="no room"):
        files.open()
    assert not file.account.is_idle
    assert [one.fh for one in files] == [file.fh]


class Empty:
    """A table without a free slot."""

    def take(self) -> int:
        return 0


def test_what_is_no_ledger() -> None:
    short, other = os.memfd_create("short"), os.memfd_create("other")
    os.ftruncate(other, ledgers.SIZE)
    for fd in (short, other):
        with pytest.raises(LedgerError):
            Ledger(fd)
    os.close(short)


def test_who_was_there_too_often(files: OpenFiles) -> None:
    ledger = files.ledger
    assert ledger.suspect([4, 6]) == {4: 1, 6: 1}
    assert ledger.suspect([6, 8]) == {6: 2, 8: 1}
    assert ledger.suspect([4, 6]) == {4: 1, 6: 3}
    assert len(ledger.suspect(range(2, 1000, 2))) == 499
    assert ledger.suspect([6])[6] == 5
