"""The whole cryptodev API: every row of its table is a method here."""

from cuse_crypto.frontend.asynchronous import AsyncCalls
from cuse_crypto.frontend.authcrypt import AuthCalls
from cuse_crypto.frontend.descriptors import DescriptorCalls
from cuse_crypto.frontend.sessions import SessionCalls


class Cryptodev(SessionCalls, AsyncCalls, AuthCalls, DescriptorCalls):
    """CryptCalls comes with AsyncCalls."""
