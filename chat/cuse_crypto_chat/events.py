"""What a talk tells its user. A screen shows events; nothing else reaches it.

Texts and names are as they came; whoever writes them on a screen makes them printable.
"""

from typing import NamedTuple


class Said(NamedTuple):
    """A message. Times in seconds since 1970: ours when it came, the sender's when it was sent."""

    who: str
    text: str
    time: float
    sent: float
    own: bool = False


class Joined(NamedTuple):
    """A member has proven that it is there: ``here`` if it was before us."""

    who: str
    time: float
    here: bool = False


class Left(NamedTuple):
    """A member has said so itself, in a sealed record."""

    who: str
    time: float


class Cut(NamedTuple):
    """A member is gone without having said so; ``why`` is the server's word for it."""

    who: str
    time: float
    why: str


class Alarm(NamedTuple):
    """Something was done to what others said, or may have been."""

    text: str
    time: float


class Notice(NamedTuple):
    """What this program itself has to say."""

    text: str
    time: float


Event = Said | Joined | Left | Cut | Alarm | Notice
