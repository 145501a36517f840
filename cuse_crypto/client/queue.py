"""Operations in flight under trio: CIOCASYNCCRYPT, poll, CIOCASYNCFETCH.

The device keeps their order. The memory of an operation belongs to the device until it has been
fetched; hence nothing that is cancelled is taken back, and the queue ends when it is empty.
"""

import errno
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import trio

from cuse_crypto.abi.structs import Cop, crypt_op
from cuse_crypto.client.cipher import CipherSession
from cuse_crypto.client.open_file import OpenFile
from cuse_crypto.client.operation import Operation, Outcome

if TYPE_CHECKING:
    from cuse_crypto.client.buffers import ReadableBuffer, WriteableBuffer

CAPACITY = 64
"""Operations that an open file holds, done ones that were not fetched included."""

AT_ONCE = 64 << 10
"""Bytes of an operation whose submission may keep trio waiting: larger ones go by way of a thread.

A node of cuse-crypto computes while an operation is submitted.
"""


class Job:
    """An operation that was submitted: ``await job.result()``."""

    def __init__(self, queue: "AsyncQueue", session: CipherSession, operation: Operation) -> None:
        self._queue, self._session, self._operation = queue, session, operation
        self._outcome: Outcome | None = None
        self._error: OSError | None = None

    @property
    def done(self) -> bool:
        """Whether ``result`` would return at once."""
        return self._outcome is not None or self._error is not None

    async def result(self) -> Outcome:
        """Wait for it. OSError with the errno that the operation ended with.

        Any task may wait, more than one as well, and in any order. Who is cancelled meanwhile only
        stops waiting.
        """
        await trio.lowlevel.checkpoint()
        await self._queue._until(lambda: self.done)
        if self._outcome is None:
            raise self._error or AssertionError("done, without an outcome")
        return self._outcome

    def _end(self, error: OSError | None) -> None:
        self._error = error
        if error is None:
            self._outcome = self._session.completed(self._operation)
        self._operation.release()


class AsyncQueue:
    """Up to 64 operations in flight on one device, which are done in the order of submission.

    For one trio program: not for threads. Nobody else may fetch from this open file.
    """

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._jobs: deque[Job] = deque()
        self._submitting, self._fetching = trio.Lock(), trio.Lock()

    async def encrypt(
        self,
        session: CipherSession,
        data: "ReadableBuffer",
        iv: "ReadableBuffer | None" = None,
        out: "WriteableBuffer | None" = None,
    ) -> Job:
        """Submit an encryption; it is only waited for if 64 are in flight.

        ``data`` and ``out`` as in CipherSession; neither may be changed or resized before the job
        is done. Without ``iv`` it goes on where the operation before it in the session ends.
        """
        return await self._submit(session, Cop.ENCRYPT, data, out, iv)

    async def decrypt(
        self,
        session: CipherSession,
        data: "ReadableBuffer",
        iv: "ReadableBuffer | None" = None,
        out: "WriteableBuffer | None" = None,
    ) -> Job:
        """Submit a decryption, as ``encrypt`` does."""
        return await self._submit(session, Cop.DECRYPT, data, out, iv)

    async def __aenter__(self) -> Self:
        if self._file.busy:
            raise ValueError(f"{self._file.path} has a queue already")
        self._file.fileno()
        self._file.busy = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for all that is in flight, also when cancelled: it is the device's memory still."""
        with trio.CancelScope(shield=True):
            async with self._submitting:
                await self._until(lambda: not self._jobs)
                self._file.busy = False

    @trio.lowlevel.enable_ki_protection
    async def _submit(
        self,
        session: CipherSession,
        op: int,
        data: "ReadableBuffer",
        out: "WriteableBuffer | None",
        iv: "ReadableBuffer | None",
    ) -> Job:
        async with self._submitting:
            await self._until(lambda: len(self._jobs) < CAPACITY)
            if not self._file.busy:
                raise ValueError("this queue is not open")
            operation = session.operation(self._file, op, data, out, iv)
            try:
                if operation.request.len > AT_ONCE:
                    await trio.to_thread.run_sync(self._send, operation)
                else:
                    self._send(operation)
            except BaseException:
                operation.release()
                raise
            job = Job(self, session, operation)
            self._jobs.append(job)
            return job

    def _send(self, operation: Operation) -> None:
        self._file.call("CIOCASYNCCRYPT", operation.request, repeatable=operation.repeatable)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Fetch until ``condition`` holds. One task waits for the device, the others for it."""
        while not condition():
            async with self._fetching:
                if not condition():
                    await trio.lowlevel.wait_readable(self._file.fileno())
                    self._fetch()

    @trio.lowlevel.enable_ki_protection
    def _fetch(self) -> None:
        """End the jobs that are done, the oldest first."""
        while self._jobs:
            error = None
            try:
                self._file.call("CIOCASYNCFETCH", crypt_op())
            except OSError as failure:
                if failure.errno == errno.EBUSY:
                    return
                error = failure
            self._jobs.popleft()._end(error)
