"""What the two processes give up, and when: as soon as they have what takes privileges."""

import importlib
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.hardening import privileges, secrets, system_calls
from cuse_crypto.hardening.identity import Identity
from cuse_crypto.linux import credentials, landlock

log = logging.getLogger(__name__)


class Needs(NamedTuple):
    """What an engine takes that others do not."""

    devices: tuple[Path, ...] = ()
    families: tuple[int, ...] = ()
    files: tuple[Path, ...] = ()
    """That it reads while it serves."""

    @property
    def opens(self) -> list[int]:
        """The flags with which it opens them."""
        return [os.O_RDONLY] * bool(self.files) + [os.O_RDWR] * bool(self.devices)


def needs_of(engine: str) -> Needs:
    """By the engine's name."""
    from cuse_crypto_backend.engines.cryptodev import DEVICE

    return {
        "cryptodev": Needs(devices=(Path(DEVICE),)),
        "af_alg": Needs(families=(socket.AF_ALG,), files=(Path("/proc/crypto"),)),
    }.get(engine, Needs())


def identity_for(user: str | None, needs: Needs) -> tuple[Identity | None, str]:
    """Who the back end becomes, None to stay; and why it stays, where that is to be told.

    Failure for a ``user`` that it cannot be, or who may not open what the engine needs.
    """
    if user is None and (os.geteuid() or privileges.in_user_namespace()):
        return None, ""
    identity = Identity.named(user) if user else Identity.preferred()
    for device in needs.devices:
        identity = identity.in_group_of(device)
    if identity.uid == os.geteuid():
        return None, ""
    if os.geteuid() == 0 and not identity.may_open(needs.devices):
        named = " and ".join(map(str, needs.devices))
        if user:
            raise Failure(f"{identity.name} may not open {named}; chgrp it, or give another --user")
        return None, f"stays root: {identity.name} may not open {named}"
    return identity, ""


def confine_back_end(identity: Identity | None, needs: Needs, sandbox: bool) -> None:
    """Nothing but to compute for who connects, from now on."""
    # The interpreter's files may be closed to that user, too.
    _load_what_comes_late()
    locking = [credentials.CAP_IPC_LOCK] * (sandbox and secrets.no_swap())
    if sandbox:
        privileges.keep({*locking, *privileges.CHANGE_USER})
    if identity:
        identity.become()
    if sandbox:
        privileges.keep(locking)
    secrets.no_dump()
    if sandbox:
        secrets.no_new_code()
        if not landlock.restrict(needs.files, needs.devices):
            log.debug("files that are open to all stay so: this kernel has no Landlock")
        system_calls.confine(needs.families, bool(needs.devices), needs.opens)


def _load_what_comes_late() -> None:
    """What Python and the C library read when it is used for the first time: a traceback in the
    log, local time, a thread that ends, the library that makes the filter.
    """
    system_calls.why_no_filter()
    for name in ("traceback", "linecache", "tokenize", "encodings.idna", "unicodedata"):
        importlib.import_module(name)
    time.localtime()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def confine_front_end(sandbox: bool, *, mounted: bool) -> None:
    """Nothing but to reach callers' memory, and to take a ``mounted`` node down."""
    locking = [credentials.CAP_IPC_LOCK] * (sandbox and secrets.no_swap())
    if sandbox:
        unmounting = [credentials.CAP_SYS_ADMIN] * mounted
        kept = {*locking, *privileges.CALLERS, *unmounting}
        # An upgraded program mounts the status files again.
        privileges.keep(kept, through_exec={*kept, credentials.CAP_SYS_ADMIN})
        secrets.no_new_code()
    secrets.no_dump()
