"""The APIs that a node can have: a table of ioctls, and a class whose methods are its rows."""

from cuse_crypto.abi import crypto_buffer, ioctls
from cuse_crypto.abi.ioctls import Ioctl
from cuse_crypto.frontend.asynchronous import AsyncCalls
from cuse_crypto.frontend.authcrypt import AuthCalls
from cuse_crypto.frontend.buffers import BufferCalls
from cuse_crypto.frontend.descriptors import DescriptorCalls
from cuse_crypto.frontend.marshal import Marshal
from cuse_crypto.frontend.sessions import SessionCalls


class Cryptodev(SessionCalls, AsyncCalls, AuthCalls, DescriptorCalls):
    """The cryptodev API; CIOCCRYPT comes with AsyncCalls."""


APIS: dict[str, tuple[tuple[Ioctl, ...], type[Marshal]]] = {
    "cryptodev": (ioctls.IOCTLS, Cryptodev),
    "crypto-buffer": (crypto_buffer.IOCTLS, BufferCalls),
}
"""By the name that ``--api`` takes."""
