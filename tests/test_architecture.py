"""Who may import whom: floors as in docs/architecture.md, no arrow back up."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

FOUNDATION = {"cuse_crypto.layout", "cuse_crypto.errors"}
BOARD = {"cuse_crypto.board"}
LANGUAGES = {"cuse_crypto.abi", "cuse_crypto.fuse", "cuse_crypto.wire"}

# fmt: off
MAY_IMPORT = {
    "cuse_crypto/abi":      FOUNDATION | {"cuse_crypto.abi"},
    "cuse_crypto/fuse":     FOUNDATION | {"cuse_crypto.fuse", "cuse_crypto.linux"},
    "cuse_crypto/wire":     FOUNDATION | {"cuse_crypto.wire"},
    "cuse_crypto/linux":    FOUNDATION | {"cuse_crypto.linux"},
    "cuse_crypto/namespaces.py": FOUNDATION | {"cuse_crypto.hardening", "cuse_crypto.linux"},
    "cuse_crypto/hardening": FOUNDATION | {"cuse_crypto.linux", "cuse_crypto.hardening"},
    "cuse_crypto/frontend": FOUNDATION | LANGUAGES | BOARD | {"cuse_crypto.frontend",
                                                      "cuse_crypto.linux",
                                                      "cuse_crypto.notify",
                                                      "cuse_crypto.journal"},
    "cuse_crypto/status":   FOUNDATION | LANGUAGES | BOARD | {"cuse_crypto.status",
                                                              "cuse_crypto.linux",
                                                              "cuse_crypto.extras",
                                                              "cuse_crypto.hardening"},
    "cuse_crypto/board.py": FOUNDATION,
    "cuse_crypto/client":   FOUNDATION | {"cuse_crypto.abi", "cuse_crypto.client"},
    "cuse_crypto/bench":    FOUNDATION | {"cuse_crypto.abi", "cuse_crypto.client",
                                          "cuse_crypto.bench", "cuse_crypto.extras",
                                          "cuse_crypto_backend"},
    "cuse_crypto/service":  FOUNDATION | {"cuse_crypto.service"},
    "backend":              FOUNDATION | {"cuse_crypto.abi", "cuse_crypto.wire",
                                          "cuse_crypto.linux", "cuse_crypto_backend"},
    "chat":                 FOUNDATION - {"cuse_crypto.layout"}
                            | {"cuse_crypto", "cuse_crypto.client", "cuse_crypto_chat"},
}
SANS_IO = [
    "cuse_crypto/layout.py", "cuse_crypto/abi", "cuse_crypto/fuse/protocol.py",
    "cuse_crypto/wire/messages.py", "chat/cuse_crypto_chat/classic.py",
    "chat/cuse_crypto_chat/frames.py", "chat/cuse_crypto_chat/records.py",
    "chat/cuse_crypto_chat/members.py", "chat/cuse_crypto_chat/stream.py",
]
# fmt: on
IO = {"os", "socket", "trio", "subprocess", "threading", "select", "mmap", "ctypes", "asyncio"}


def modules(place: str) -> Iterator[Path]:
    path = PROJECT / place
    yield from [path] if path.suffix else path.rglob("*.py")


def imports(path: Path) -> Iterator[str]:
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            yield from (name.name for name in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module


def _within(name: str, allowed: str) -> bool:
    # The package itself is its public names, not all that is below it.
    return name == allowed or (allowed != "cuse_crypto" and name.startswith(allowed + "."))


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_floors(place: str) -> None:
    allowed = MAY_IMPORT[place]
    found = list(modules(place))
    assert found
    for path in found:
        for name in imports(path):
            if name.startswith("cuse_crypto"):
                assert any(_within(name, one) for one in allowed), (
                    f"{path.relative_to(PROJECT)} imports {name}"
                )


@pytest.mark.parametrize("place", SANS_IO)
def test_languages_do_no_io(place: str) -> None:
    for path in modules(place):
        touched = {name.partition(".")[0] for name in imports(path)} & IO
        assert not touched, path
