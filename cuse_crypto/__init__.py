"""A user-space ``/dev/crypto``: the node, its protocol languages, the command line, a binding.

The names below are the binding's, imported when they are first used: the daemons do without.
"""

# As typing has it, which is not imported for that: see frontend/crioget.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from cuse_crypto.client import (
        Aead,
        CipherSession,
        CryptoDevice,
        Hash,
        InvalidTag,
        Outcome,
        SessionInfo,
    )

__all__ = [
    "Aead",
    "CipherSession",
    "CryptoDevice",
    "Hash",
    "InvalidTag",
    "Outcome",
    "SessionInfo",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cuse_crypto import client

    return getattr(client, name)
