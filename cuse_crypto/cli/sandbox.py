"""What the two processes give up, and when: as soon as they have what takes privileges."""

import os
import socket
from pathlib import Path
from typing import NamedTuple

from cuse_crypto.errors import Failure
from cuse_crypto.hardening import privileges, secrets, system_calls
from cuse_crypto.hardening.identity import Identity


class Needs(NamedTuple):
    """What an engine takes that others do not."""

    devices: tuple[Path, ...] = ()
    families: tuple[int, ...] = ()


def needs_of(engine: str) -> Needs:
    """By the engine's name."""
    from cuse_crypto_backend.engines.cryptodev import DEVICE

    return {
        "cryptodev": Needs(devices=(Path(DEVICE),)),
        "af_alg": Needs(families=(socket.AF_ALG,)),
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
    locking = [privileges.CAP_IPC_LOCK] * (sandbox and secrets.no_swap())
    if sandbox:
        privileges.keep({*locking, *privileges.CHANGE_USER})
    if identity:
        identity.become()
    if sandbox:
        privileges.keep(locking)
    secrets.no_dump()
    if sandbox:
        system_calls.confine(needs.families, all_ioctls=bool(needs.devices))


def confine_front_end(sandbox: bool, *, mounted: bool) -> None:
    """Nothing but to reach callers' memory, and to take a ``mounted`` node down."""
    locking = [privileges.CAP_IPC_LOCK] * (sandbox and secrets.no_swap())
    if sandbox:
        unmounting = [privileges.CAP_SYS_ADMIN] * mounted
        kept = {*locking, *privileges.CALLERS, *unmounting}
        # An upgraded program mounts the status files again.
        privileges.keep(kept, through_exec={*kept, privileges.CAP_SYS_ADMIN})
    secrets.no_dump()
