"""A virtual machine that systemd boots, again and again with what the last one left behind.

The host's own services stay out of it: nothing is enabled but what systemd itself brings.
"""

import contextlib
import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tests import virtual_machine
from tests.virtual_machine import CACHE, EXCHANGE, MODULES, PATH, System

PROGRAMS = {  # and their Debian packages
    "systemd-analyze": "systemd",
    "udevadm": "udev",
    "mkfs.ext4": "e2fsprogs",
    "setpriv": "util-linux",
    "useradd": "passwd",
}
SYSTEMD = Path("/lib/systemd/systemd")
DISK = 512 << 20

# Slow under emulation, and not what is looked at. tmpfiles' would empty folders that the tests use.
MASKED = (
    "dbus.service dbus.socket getty.target systemd-logind.service systemd-udev-trigger.service "
    "systemd-tmpfiles-setup.service systemd-tmpfiles-clean.timer systemd-update-utmp.service "
    "systemd-update-utmp-runlevel.service systemd-user-sessions.service tmp.mount "
    "systemd-remount-fs.service systemd-random-seed.service systemd-journal-flush.service "
    "systemd-pcrphase.service systemd-pcrphase-sysinit.service modprobe@drm.service "
    "modprobe@efi_pstore.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount "
    "dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount "
    "sys-kernel-config.mount sys-fs-fuse-connections.mount systemd-modules-load.service "
    "systemd-sysusers.service systemd-sysctl.service modprobe@configfs.service "
    "modprobe@dm_mod.service modprobe@loop.service modprobe@fuse.service"
)

UPPER = "mkdir -p /dev; mount -t devtmpfs devtmpfs /dev; mount -t ext4 /dev/vda /upper"

# /run is not on the disk: what is there is for this boot alone. Generators take half a minute, at
# each reload again; what they would find is not for the guest.
PREPARE = f"""\
rm -f $new/.dockerenv
units=$new/run/systemd/system
mkdir -p $new/run/user $units/multi-user.target.wants $new/run/systemd/system-generators
for unit in {MASKED}; do ln -s /dev/null $units/$unit; done
for folder in $new/lib $new/usr/local/lib $new/etc; do
    for generator in $folder/systemd/system-generators/*; do
        [ -e "$generator" ] || continue
        ln -sf /dev/null $new/run/systemd/system-generators/${{generator##*/}}
    done
done
echo "[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/sh $init
StandardOutput=null
StandardError=null" >$units/the-command.service
ln -s ../the-command.service $units/multi-user.target.wants/
"""

# The host's own services are not wanted.
FIRST = "rm -rf $new/etc/systemd/system/*.wants\n"

APPEND = "systemd.unit=multi-user.target systemd.condition-first-boot=0 quiet systemd.show_status=0"


def why_not() -> str | None:
    """One line that says why this machine cannot run it; None if it can."""
    missing = {package for name, package in PROGRAMS.items() if not shutil.which(name, path=PATH)}
    if missing or not SYSTEMD.exists():
        return f"Debian packages are missing: {' '.join(sorted(missing or {'systemd'}))}"
    return virtual_machine.why_not()


class Machine:
    """One machine with a disk of its own, which is switched off between the calls of ``boot``."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._prepare = FIRST + PREPARE

    def boot(
        self, command: str, *, timeout: float, progress: TextIO | io.TextIOBase | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Boot, run ``command`` as a service that is the last to start, and shut down in order."""
        disk = str(self._disk).replace(",", ",,")
        system = System(
            modules=(*MODULES, "virtio_blk", "ext4"),
            upper=UPPER,
            start=f"new=/new init={EXCHANGE}/init\n{self._prepare}exec switch_root /new {SYSTEMD}",
            append=APPEND,
            finish="systemctl --no-block reboot",
        )
        self._prepare = PREPARE
        return virtual_machine.run(
            command,
            timeout=timeout,
            progress=progress,
            system=system,
            qemu_options=("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
        )


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """A new one, whose disk is removed at the end."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE, prefix="disk-") as disk:
        disk.truncate(DISK)
        make = shutil.which("mkfs.ext4", path=PATH) or "mkfs.ext4"
        subprocess.run([make, "-q", "-F", disk.name], check=True, stdin=subprocess.DEVNULL)
        yield Machine(Path(disk.name))
