"""The server of the classic wire: reads what clients say, and tells it to all with time and sender.

The wire has no names: a sender is its address.
"""

import time

import trio

from cuse_crypto_chat import classic
from cuse_crypto_chat.classic import Assembler, CutMessage
from cuse_crypto_chat.classic_cipher import ClassicCipher
from cuse_crypto_chat.host import FULL
from cuse_crypto_chat.journal import Log
from cuse_crypto_chat.room import Allowance, Member, Room
from cuse_crypto_chat.text import printable

PART = 65536


class ClassicRoom:
    """A room on the classic wire; ``rate`` is in bytes per second of one client."""

    def __init__(self, room: Room, cipher: ClassicCipher, log: Log, rate: float) -> None:
        self._room = room
        self._cipher = cipher
        self._log = log
        self._rate = rate

    async def refusal(self) -> bytes:
        """A message like any other."""
        return await self._sealed(FULL)

    async def goodbye(self) -> bytes:
        """A message like any other."""
        with trio.move_on_after(1):
            return await self._sealed(_stamped("the server ends. Goodbye."))
        return b""

    async def keep_waiting(self, stream: trio.SocketStream) -> None:
        """The course's clients are told nothing."""

    async def serve(self, stream: trio.SocketStream, member: Member) -> None:
        """Until it has said all, or is cut off."""
        assembler = Assembler()
        allowance = Allowance(self._rate)
        member.present = True
        try:
            await self._tell(f"{member.address} joined", member)
            while data := bytes(await stream.receive_some(PART)):
                for message in await self._cipher.decrypt(assembler.feed(data)):
                    text = printable(classic.text(message))
                    await self._tell(f"{member.address}: {text}", member)
                await allowance.spend(len(data))
            assembler.end()
        except trio.BrokenResourceError:
            member.dropped = "connection broken"
        except CutMessage as error:
            member.dropped = str(error)

    async def left(self, member: Member) -> None:
        """Tell the others."""
        why = f" ({member.dropped})" if member.dropped else ""
        with trio.move_on_after(1):
            await self._tell(f"{member.address} left{why}", member)

    async def _tell(self, text: str, member: Member) -> None:
        self._log(text)
        self._room.tell_others(member, await self._sealed(_stamped(text)))

    async def _sealed(self, line: str) -> bytes:
        return await self._cipher.encrypt(list(classic.messages(line)))


def _stamped(text: str) -> str:
    return f"[{time.strftime('%H:%M:%S')}] {text}"
