"""The descriptors that a successor of this process needs, by names.

Whoever started this process keeps them (``cuse-crypto up``, systemd), or this process itself does,
until it makes way for a newer program (``cuse-crypto upgrade``).
"""

import faulthandler
import os
from collections.abc import Iterable
from contextlib import suppress

from cuse_crypto.frontend.arena import Arena
from cuse_crypto.frontend.ledger import Ledger
from cuse_crypto.fuse import claim
from cuse_crypto.fuse.node import Kind, Node
from cuse_crypto.notify import discard, store

NODE, LOCK, LEDGER, OWN, SHARED, CRASH = "node", "lock", "ledger", "own", "shared", "crash"
"""The first words of names; dots separate what follows."""

MOST_REPORTED = 1 << 14
"""Bytes of a crash report that are read."""


class Estate:
    """What is left to a successor, and what a predecessor has left: ``descriptors``, by name."""

    def __init__(self, inherited: Iterable[tuple[str, int]] = ()) -> None:
        self.descriptors = dict(inherited)

    def keep(self, name: str, fd: int) -> None:
        """For a successor. ``fd`` stays the caller's. OSError if it cannot be kept."""
        self.descriptors[name] = fd
        store(name, fd)

    def drop(self, names: Iterable[str]) -> None:
        """What no successor needs any more."""
        for name in names:
            del self.descriptors[name]
            discard(name)

    def keep_node(self, node: Node, ledger: Ledger) -> None:
        """What all workers have in common; the node last, which is nothing without the rest."""
        self.keep(LEDGER, ledger.fd)
        if node.lock >= 0:
            self.keep(LOCK, node.lock)
        self.keep(f"{NODE}.{node.kind}", node.channel.fd)

    def keep_crash_report(self) -> str:
        """Have a crash of this process reported to the next one; what a predecessor has reported.

        faulthandler writes it, on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT.
        """
        fd = self.descriptors.get(CRASH, -1)
        if fd < 0:
            fd = os.memfd_create("cuse-crypto-crash", os.MFD_CLOEXEC)
            with suppress(OSError):
                self.keep(CRASH, fd)
        report = os.pread(fd, MOST_REPORTED, 0).decode(errors="replace")
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        faulthandler.enable(fd)
        return report

    def keep_arena(self, arena: Arena, generation: int, number: int) -> None:
        """The memory of worker ``number`` of this front end, the ``generation``-th of its node."""
        self.keep(f"{OWN}.{generation}.{number}", arena.own_fd)
        self.keep(f"{SHARED}.{generation}.{number}", arena.fd)

    def drop_arena(self, generation: int, number: int) -> None:
        """That worker has ended."""
        names = [f"{kind}.{generation}.{number}" for kind in (OWN, SHARED)]
        self.drop(name for name in names if name in self.descriptors)

    @property
    def kind(self) -> Kind | None:
        """Of the node that is here, if one is."""
        if f"{NODE}.cuse" in self.descriptors:
            return "cuse"
        return "mounted" if f"{NODE}.mounted" in self.descriptors else None

    def arena_names(self) -> list[str]:
        """Of the memories of all workers, of all generations."""
        return [name for name in self.descriptors if name.startswith((f"{OWN}.", f"{SHARED}."))]

    def arenas(self) -> list[tuple[str, str]]:
        """The names of both memories of each worker that has both: see keep_arena."""
        own = [name for name in self.arena_names() if name.startswith(OWN)]
        pairs = [(name, SHARED + name.removeprefix(OWN)) for name in own]
        return [pair for pair in pairs if pair[1] in self.descriptors]

    def refuse(self) -> None:
        """Nothing of it can be used, but for the crash report, which is this process's by now."""
        report = self.descriptors.pop(CRASH, None)
        claim.give_up(self.descriptors.get(LOCK, -1))
        for name, fd in self.descriptors.items():
            discard(name)
            with suppress(OSError):
                os.close(fd)
        self.descriptors = {} if report is None else {CRASH: report}
