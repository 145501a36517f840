"""Operations in flight under trio, on a real node."""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from cuse_crypto.client import CipherSession, CryptoDevice
from cuse_crypto.client.buffers import Pin
from cuse_crypto.client.queue import AT_ONCE, CAPACITY
from tests.conftest import Service

pytestmark = pytest.mark.node

KEY, IV = bytes(range(16)), bytes(range(100, 116))


@pytest.fixture
def device(openssl_device: Service) -> Iterator[CryptoDevice]:
    with CryptoDevice(openssl_device.path) as one:
        yield one


@pytest.fixture
def session(device: CryptoDevice) -> Iterator[CipherSession]:
    with device.cipher("aes-cbc", KEY) as one:
        yield one


def blocks(count: int, size: int = 256) -> list[bytes]:
    return [os.urandom(size) for _ in range(count)]


@pytest.mark.parametrize("size", [16, 256, AT_ONCE + 16])
def test_more_than_the_device_holds(
    device: CryptoDevice, session: CipherSession, size: int
) -> None:
    data = blocks(3 * CAPACITY, size)

    async def main() -> list[bytes]:
        async with device.async_queue() as queue:
            jobs = [await queue.encrypt(session, block, iv=IV) for block in data]
            backwards = [(await job.result()).output for job in reversed(jobs)]
            plain = [await queue.decrypt(session, block, iv=IV) for block in backwards]
        assert all(job.done for job in plain)
        assert [(await job.result()).output for job in plain] == data[::-1]
        return backwards[::-1]

    assert trio.run(main) == [session.encrypt(block, iv=IV) for block in data]


def test_outcomes(device: CryptoDevice) -> None:
    data, out = b"x" * 32, bytearray(40)

    async def main() -> None:
        with device.cipher("aes-cbc", KEY, mac="sha1") as session:
            async with device.async_queue() as queue:
                first = await queue.encrypt(session, data, iv=IV)
                second = await queue.encrypt(session, data)
                third = await queue.encrypt(session, data, iv=IV, out=out)
                in_place = bytearray(data)
                fourth = await queue.encrypt(session, in_place, iv=IV, out=in_place)
            one, two, three, four = [await j.result() for j in (first, second, third, fourth)]
            whole = session.encrypt(data * 2, iv=IV)
            assert one.output + two.output == whole
            assert (one.next_iv, two.next_iv) == (whole[16:32], None)
            assert one.digest == device.hash("sha1", data).digest()
            assert (three.output, three.size, bytes(out[:32])) == (b"", 32, whole[:32])
            assert (four.size, bytes(in_place)) == (32, whole[:32])
            out.append(0)

    trio.run(main)


def test_many_tasks(device: CryptoDevice, session: CipherSession) -> None:
    data = blocks(8)
    expected = [session.encrypt(block, iv=IV) for block in data]

    async def main() -> None:
        async def work(number: int) -> None:
            for _ in range(30):
                job = await queue.encrypt(session, data[number], iv=IV)
                assert (await job.result()).output == expected[number]

        async with device.async_queue() as queue, trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(work, number)

    trio.run(main)


def test_who_is_cancelled_only_stops_waiting(device: CryptoDevice, session: CipherSession) -> None:
    data = blocks(20)

    async def main() -> None:
        async with device.async_queue() as queue:
            jobs = [await queue.encrypt(session, block, iv=IV) for block in data]
            with trio.CancelScope() as scope:
                scope.cancel()
                await jobs[3].result()
            assert scope.cancelled_caught
            for job, block in zip(jobs, data, strict=True):
                assert (await job.result()).output == session.encrypt(block, iv=IV)

    trio.run(main)


def test_a_cancelled_queue_still_empties(device: CryptoDevice, session: CipherSession) -> None:
    place = bytearray(64)
    jobs = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with device.async_queue() as queue:
                jobs.extend([await queue.encrypt(session, b"x" * 64, iv=IV, out=place)] * 2)
                scope.cancel()
                await queue.encrypt(session, b"y" * 64, iv=IV, out=place)
        assert scope.cancelled_caught

    trio.run(main)
    assert jobs[0].done
    assert place == session.encrypt(b"x" * 64, iv=IV)
    place.append(0)


def test_an_error_is_that_job_s_alone(device: CryptoDevice, session: CipherSession) -> None:
    """EFAULT by memory that Python believes to be writable."""
    area = mmap.mmap(-1, mmap.PAGESIZE)
    with Pin(area, "area") as pin:
        libc = ctypes.CDLL(None, use_errno=True)
        assert not libc.mprotect(ctypes.c_void_p(pin.address), mmap.PAGESIZE, mmap.PROT_READ)

    async def main() -> list[Any]:
        async with device.async_queue() as queue:
            jobs = [
                await queue.encrypt(session, b"x" * 16, iv=IV, out=out)
                for out in (None, area, None)
            ]
        found: list[Any] = []
        for job in jobs:
            try:
                found.append((await job.result()).output)
            except OSError as error:
                found.append((error.errno, str(error)))
        return found

    good = session.encrypt(b"x" * 16, iv=IV)
    message = f"[Errno 14] CIOCASYNCFETCH: Bad address: '{device.path}'"
    assert trio.run(main) == [good, (errno.EFAULT, message), good]
    area.close()


def test_misuse(device: CryptoDevice, session: CipherSession) -> None:
    async def main() -> None:
        queue = device.async_queue()
        with pytest.raises(ValueError, match="not open"):
            await queue.encrypt(session, b"")
        async with queue:
            with pytest.raises(ValueError, match="has a queue already"):
                await device.async_queue().__aenter__()
            with pytest.raises(ValueError, match="still open"):
                device.close()
            with pytest.raises(ValueError, match="multiple of 16"):
                await queue.encrypt(session, b"x")
            with CryptoDevice(device.path) as other:
                foreign = other.cipher("aes-cbc", KEY)
                with pytest.raises(ValueError, match="another device's"):
                    await queue.encrypt(foreign, b"")

    trio.run(main)
