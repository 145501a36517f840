"""CIOCASYNCCRYPT and CIOCASYNCFETCH.

A job is done while it is submitted: only while its caller sleeps in an ioctl is it certain whose
memory is read and written. What remains to be fetched is the digest, the IV and the errno.
"""

import errno

from cuse_crypto.abi.structs import CopFlag, crypt_op
from cuse_crypto.frontend.crypt import CryptCalls, writes_iv
from cuse_crypto.frontend.files import MAX_JOBS, Job, OpenFile, Session
from cuse_crypto.frontend.ledger import State
from cuse_crypto.frontend.marshal import ARGUMENT, SMALL, Call, ranges
from cuse_crypto.frontend.memory import Piece, Range

_DIGEST_OUT, _IV_OUT = SMALL, SMALL + 64


class Fetch:
    """Changes an open file, which has one result less; see marks.Changing."""

    slot = ses = 0
    state: State = (0, 0, 0, 0, b"")

    def __init__(self, file: OpenFile) -> None:
        self._file = file

    def save(self) -> None:
        """It is fetched."""
        with self._file.lock:
            self._file.note_jobs(-1)


class AsyncCalls(CryptCalls):
    """Operations whose results are fetched."""

    def CIOCASYNCCRYPT(self, call: Call, op: crypt_op) -> None:
        """Do an operation, and keep its result; EBUSY when too many wait to be fetched."""
        session = call.file.session(op.ses)
        if op.iv and session.iv_size:
            call.memory.copy_from_user([Range(op.iv, session.iv_size)], SMALL)
        if op.flags & CopFlag.NO_ZC:
            raise OSError(errno.EINVAL, "no copies in asynchronous operations")
        if len(call.file.jobs) >= MAX_JOBS:
            raise OSError(errno.EBUSY, "too many operations wait to be fetched")
        with call.file.lock:
            # A successor that finds the operation done knows that its result is gone.
            call.file.note_jobs(1)
        job = None
        try:
            job = self._job(call, op, session)
            call.claim()
        finally:
            with call.file.lock:
                room = len(call.file.jobs) < MAX_JOBS
                if job and room:
                    call.file.jobs.append(job)
                call.file.note_jobs(-1)
        if not room:
            raise OSError(errno.EBUSY, "too many operations wait to be fetched")

    def _job(self, call: Call, op: crypt_op, session: Session) -> Job:
        """Done, or failed in a way that is told when it is fetched."""
        try:
            with session:
                result = self._operate(call, op, session, [])
                call.memory.commit(result.dst, session)
                return Job(op, 0, result.digest, result.iv if writes_iv(op, session) else b"")
        except OSError as failure:
            if failure.errno not in (errno.EINVAL, errno.EFAULT, errno.EBADMSG):
                raise
            return Job(op, failure.errno, b"", b"")

    def CIOCASYNCFETCH(self, call: Call, op: object) -> None:
        """The oldest result, EBUSY when there is none. It is gone even where it cannot be told."""
        job = self._oldest(call.file)
        pieces = self._results(call, job)
        call.memory.copy_from_user([], SMALL + 128, writable=ranges(pieces))
        call.claim()
        while not self._take(call.file, job):
            job = self._oldest(call.file)
            pieces = self._results(call, job)
        fetch = Fetch(call.file)
        if job.status:
            fetch.save()
            raise OSError(job.status, "of an asynchronous operation")
        call.memory.commit(pieces, fetch)

    def _oldest(self, file: OpenFile) -> Job:
        with file.lock:
            if file.lost:
                file.lost = False
                file.note_jobs()
                raise OSError(errno.EIO, "results died with the process that had them")
            if not file.jobs:
                raise OSError(errno.EBUSY, "nothing is done")
            return file.jobs[0]

    def _take(self, file: OpenFile, job: Job) -> bool:
        """Whether it is still the oldest: then no other thread has it, and it is noted until it is
        fetched.

        No caller's memory is touched under the lock, for that may take as long as the caller likes.
        """
        with file.lock:
            if not file.jobs or file.jobs[0] is not job:
                return False
            file.jobs.popleft()
            file.note_jobs(1)
            return True

    def _results(self, call: Call, job: Job) -> list[Piece]:
        if job.status:
            return []
        pieces = []
        if job.digest:
            pieces.append(self._put(job.op.mac, job.digest, _DIGEST_OUT))
        if job.iv:
            pieces.append(self._put(job.op.iv, job.iv, _IV_OUT))
        # Of an address that a 64-bit program gave, a 32-bit one is told the lower half (driver).
        sizes = [member.size for member in call.layout.fields]
        told = [value & (1 << 8 * size) - 1 for size, value in zip(sizes, job.op, strict=True)]
        call.layout.pack_into(self._view, ARGUMENT, *told)
        return [*pieces, call.structure]


def poll_mask(file: OpenFile) -> int:
    """What poll(2) sees: as in the driver, readable with a result, writable with room for a job."""
    import select

    waiting = len(file.jobs)
    readable = select.POLLIN | select.POLLRDNORM if waiting or file.lost else 0
    return readable | (select.POLLOUT | select.POLLWRNORM if waiting < MAX_JOBS else 0)
