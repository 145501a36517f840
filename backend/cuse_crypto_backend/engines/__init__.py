"""The engines, and the choice between them. One file each; a row here is all that it takes."""

from collections.abc import Callable

from cuse_crypto.errors import Failure
from cuse_crypto_backend.engines import af_alg, cryptodev, null, openssl
from cuse_crypto_backend.engines.engine import Engine, EngineFile, EngineSession

__all__ = ["ENGINES", "Engine", "EngineFile", "EngineSession", "choose"]

ENGINES: dict[str, Callable[[], Engine]] = {
    "cryptodev": cryptodev.CryptodevEngine,
    "openssl": openssl.OpensslEngine,
    "af_alg": af_alg.AfAlgEngine,
    "null": null.NullEngine,
}
"""By name; calling one gives the engine, or a Failure that says why this machine has it not."""


def choose(name: str) -> tuple[Engine, str]:
    """The engine, and why it was taken. Failure in one line when it cannot be had."""
    if name != "auto":
        return ENGINES[name](), "as asked"
    try:
        return ENGINES["cryptodev"](), f"{cryptodev.DEVICE} is there"
    except Failure as failure:
        return ENGINES["openssl"](), str(failure).partition(";")[0]
