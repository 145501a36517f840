"""The server of the default wire: passes records on, and can read none of them."""

import contextlib
import math

import trio

from cuse_crypto_chat import frames
from cuse_crypto_chat.frames import Frame, FrameReader, PeerError, Welcome
from cuse_crypto_chat.host import FULL
from cuse_crypto_chat.journal import Log
from cuse_crypto_chat.room import Allowance, Member, Room

PART = 65536
JOINING = 10.0
"""Seconds for a newcomer to say what it is."""
KEEPALIVE = 15
"""Seconds between signs of life."""
MISSED = 3
"""Signs of life that may be missing."""
WAITING = "another talk is under way; you are next when it ends"


class Relay:
    """A room on the default wire; ``rate`` is in bytes per second of one client."""

    def __init__(self, room: Room, log: Log, rate: float) -> None:
        self._room = room
        self._log = log
        self._rate = rate

    async def refusal(self) -> bytes:
        """BYE."""
        return frames.pack_reason("BYE", FULL)

    async def goodbye(self) -> bytes:
        """BYE."""
        return frames.pack_reason("BYE", "the server ends")

    async def keep_waiting(self, stream: trio.SocketStream) -> None:
        """WAIT, and then signs of life."""
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(frames.pack_reason("WAIT", WAITING))
            while True:
                await trio.sleep(KEEPALIVE)
                await stream.send_all(frames.pack("PING", frames.TOKEN.pack(0)))

    async def serve(self, stream: trio.SocketStream, member: Member) -> None:
        """Let a client in, and pass on what it says."""
        reader = FrameReader("member")
        allowance = Allowance(self._rate)
        joining = trio.move_on_after(JOINING)
        try:
            with joining:
                while data := await self._bytes(stream, member):
                    for frame in reader.feed(data):
                        self._take(frame, member)
                    if member.present:
                        joining.deadline = math.inf
                    await allowance.spend(len(data))
        except PeerError as error:
            member.put(frames.pack_reason("BYE", str(error)))
            member.dropped = f"it broke the protocol: {error}"
        except trio.TooSlowError:
            member.dropped = "it gave no sign of life"
        except trio.BrokenResourceError:
            member.dropped = "connection broken"

    async def _bytes(self, stream: trio.SocketStream, member: Member) -> bytes:
        for _ in range(MISSED):
            with trio.move_on_after(KEEPALIVE):
                return bytes(await stream.receive_some(PART))
            member.put(frames.pack("PING", frames.TOKEN.pack(0)))
        raise trio.TooSlowError

    def _take(self, frame: Frame, member: Member) -> None:
        if (frame.name == "JOIN") == member.present:
            raise PeerError(f"{frame.name} out of turn")
        if frame.name == "JOIN":
            frames.check_join(frame.payload)
            self._admit(member)
        elif frame.name == "PING":
            member.put(frames.pack("PONG", frame.payload))
        elif frame.name == "RECORD":
            data = frames.pack("RECORD", frame.payload, member.number)
            if frame.member == frames.ROOM:
                self._room.tell_others(member, data)
            else:
                self._room.tell(frame.member, data)

    def _admit(self, member: Member) -> None:
        there = tuple(one.number for one in self._room)
        member.put(frames.pack_welcome(Welcome(member.number, KEEPALIVE, there)))
        member.present = True
        self._log(f"{member.address} joined as member {member.number}; {len(there) + 1} here")

    async def left(self, member: Member) -> None:
        """Tell the others and the journal."""
        why = member.dropped or "it closed the connection"
        self._room.tell_others(member, frames.pack_reason("LEFT", why, member.number))
        self._log(f"member {member.number} ({member.address}) left: {why}")
