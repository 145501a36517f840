"""The crypto device, as the chat uses it: sessions by key, in threads, over the device's ends.

A device that has gone is opened again until it is back; what was asked for is then done. That is
the same bytes once more, so that no nonce comes to stand for two things.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from cuse_crypto import Aead, CipherSession, CryptoDevice
from cuse_crypto.errors import Failure

T = TypeVar("T")

MAX_SESSIONS = 512
"""Open at once; the one unused for longest is ended for a new one."""
BACKOFF = 0.1, 5.0
"""Seconds between attempts to reach a device that has gone: at first, and at most."""
HANGING = 2.0
"""Seconds without an answer that are worth a word."""
WATCHING = 0.5
Tell = Callable[[str], Awaitable[None]]


class Sessions:
    """One open device, and its sessions by algorithm and key. OSError of the device."""

    def __init__(self, path: str) -> None:
        self._device = CryptoDevice(path)
        self._sessions: OrderedDict[tuple[str, bytes], Aead | CipherSession] = OrderedDict()

    def gcm(self, key: bytes) -> Aead:
        """AES-GCM."""
        session = self._get("aes-gcm", key, self._device.aead)
        assert isinstance(session, Aead)
        return session

    def cbc(self, key: bytes) -> CipherSession:
        """AES-CBC."""
        session = self._get("aes-cbc", key, self._device.cipher)
        assert isinstance(session, CipherSession)
        return session

    def _get(
        self, name: str, key: bytes, make: Callable[[str, bytes], Aead | CipherSession]
    ) -> Aead | CipherSession:
        if (name, key) not in self._sessions:
            self._sessions[name, key] = make(name, key)
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)[1].close()
        self._sessions.move_to_end((name, key))
        return self._sessions[name, key]

    def close(self) -> None:
        """End all sessions, and close the device."""
        for session in self._sessions.values():
            session.close()
        self._device.close()


class Crypto:
    """The device at ``path``; ``tell`` is given a line when it goes and when it is back."""

    def __init__(self, path: str, tell: Tell) -> None:
        self.path = path
        self._busy_since: float | None = None
        self._tell = tell
        self._sessions: Sessions | None = None
        self._lock = trio.Lock()

    async def check(self, work: Callable[[Sessions], object]) -> None:
        """Do ``work`` once, to see that this device can. Failure with its remedy."""
        try:
            await self._attempt(work)
        except OSError as error:
            raise Failure(f"{self.path}: {error.strerror}") from None

    async def do(self, work: Callable[[Sessions], T]) -> T:
        """What ``work`` gives; it must be the same when done again. Waits for the device."""
        async with self._lock:
            delay = BACKOFF[0]
            lost = False
            while True:
                try:
                    result = await self._attempt(work)
                except OSError as error:
                    if not lost:
                        await self._tell(
                            f"{self.path}: {error.strerror}; what is typed waits for it"
                        )
                    lost = True
                    await trio.sleep(delay)
                    delay = min(delay * 2, BACKOFF[1])
                else:
                    if lost:
                        await self._tell(f"{self.path} is back")
                    return result

    async def watch(self) -> None:
        """Tell when the device does not answer, and when it does again, until cancelled."""
        told = False
        while True:
            await trio.sleep(WATCHING)
            since = self._busy_since
            hangs = since is not None and time.monotonic() - since > HANGING
            if hangs and not told:
                await self._tell(f"{self.path} does not answer; what is typed waits for it")
            elif told and not hangs:
                await self._tell(f"{self.path} answers again")
            told = hangs

    async def _attempt(self, work: Callable[[Sessions], T]) -> T:
        job = _Job(self.path, self._sessions)
        self._busy_since = time.monotonic()
        try:
            # A thread: a device that does not answer must not keep Ctrl-C from working. That is
            # about 0.15 ms for each visit, beside 0.2 ms for each record (measured on one core).
            result = await trio.to_thread.run_sync(job.run, work, abandon_on_cancel=True)
        except (trio.Cancelled, OSError):
            self._sessions = None
            job.abandon()
            raise
        finally:
            self._busy_since = None
        self._sessions = job.sessions
        return result

    def close(self) -> None:
        """Close the device; nobody may be in ``do``."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            sessions.close()


class _Job:
    """One use of the device by a thread; whoever is last, thread or task, closes what is left."""

    def __init__(self, path: str, sessions: Sessions | None) -> None:
        self.sessions = sessions
        self._path = path
        self._lock = threading.Lock()
        self._running = False
        self._abandoned = False

    def run(self, work: Callable[[Sessions], T]) -> T:
        with self._lock:
            self._running = True
        try:
            if self.sessions is None:
                self.sessions = Sessions(self._path)
            return work(self.sessions)
        finally:
            with self._lock:
                self._running = False
                self._close_if_abandoned()

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            self._close_if_abandoned()

    def _close_if_abandoned(self) -> None:
        if self._abandoned and not self._running and self.sessions is not None:
            self.sessions.close()
            self.sessions = None
