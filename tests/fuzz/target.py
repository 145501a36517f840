"""What all targets have in common."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from cuse_crypto.fuse.protocol import ProtocolError
from cuse_crypto.wire.connection import ConnectionLost, PeerSilent
from cuse_crypto.wire.messages import PeerError

Run = Callable[[bytes], str]
"""Feeds one input; a word for what came of it, or one of ALLOWED. All else is a finding."""
Target = Callable[[], AbstractContextManager[Run]]

ALLOWED = PeerError, ProtocolError, ConnectionLost, PeerSilent
"""The last two are the end of a connection, and what it is to be silent; no bytes are to blame."""
