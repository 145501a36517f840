"""The Python binding: ``/dev/crypto`` with bytes instead of ioctls, on any device of that API.

Imports nothing of the front end or the back end. ``queue`` alone needs trio, and is loaded on use.
"""

from cuse_crypto.client.aead import Aead, InvalidTag
from cuse_crypto.client.cipher import CipherSession
from cuse_crypto.client.device import CryptoDevice
from cuse_crypto.client.hash import Hash
from cuse_crypto.client.operation import Outcome
from cuse_crypto.client.session import SessionInfo

__all__ = [
    "Aead",
    "CipherSession",
    "CryptoDevice",
    "Hash",
    "InvalidTag",
    "Outcome",
    "SessionInfo",
]
