"""Run a command on this machine's files, but under a Debian kernel, in an emulated machine (QEMU).

The guest sees the host's root file system through a throw-away overlay: what works on the host
works there, at the same path, and nothing it writes comes back. What the host's kernel may lack is
there: /dev/cuse and all modules. Everything on the host that this leaves behind is in `CACHE`;
delete that folder to get a newer kernel.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "vm"
EXCHANGE = "/run/virtual-machine"  # where the guest finds its orders and leaves what came of them
SHARE = "trans=virtio,version=9p2000.L,msize=512000"

PROGRAMS = {  # and their Debian packages
    "apt-cache": "apt",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "modprobe": "kmod",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
}
# An ordinary user's PATH lacks the folders of depmod and modprobe.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"

# What it takes to reach the root file system, and the devices that the tests are about.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "fuse", "cuse")

# Process 1 until the root file system is there, in busybox's shell.
INITRAMFS_INIT = """\
#!/bin/busybox sh
set -e
/bin/busybox --install -s /bin
for module in /modules/*; do insmod $module; done
mkdir /lower /upper /new
mount -t 9p -o ro,cache=loose,{share} root /lower
{upper}
mkdir -p /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /new
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
mount -t fusectl fusectl /new/sys/fs/fuse/connections
mount -t tmpfs -o mode=0755 tmpfs /new/run
mount -t devtmpfs devtmpfs /new/dev
mkdir /new/dev/pts /new/dev/shm
mount -t devpts -o mode=0620,ptmxmode=0666 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /new/dev/shm
ln -s /proc/self/fd /new/dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s fd/${{number%:*}} /new/dev/${{number#*:}}; done
chmod 0666 /new/dev/fuse  # as udev does
mkdir -p /new/lib/modules/{version} /new{exchange}
mount --bind /new{modules} /new/lib/modules/{version}
mount -t 9p -o cache=none,{share} exchange /new{exchange}
ip link set lo up
hostname localhost
{start}
"""

# Process 1 from then on, in the host's shell. Its process group is 0; the command gets an ordinary
# one (setsid).
GUEST_INIT = f"""\
setsid --wait sh {EXCHANGE}/command </dev/null >>{EXCHANGE}/output 2>&1
echo $? >{EXCHANGE}/status
"""


class System(NamedTuple):
    """What a guest is beyond the command's: lines of the initramfs's shell, and what they need."""

    modules: tuple[str, ...] = MODULES
    upper: str = "mount -t tmpfs -o mode=0755,size=75% tmpfs /upper"
    """Where the guest's changes go."""
    start: str = f"exec switch_root /new /bin/sh {EXCHANGE}/init"
    """What becomes process 1, and has the command run by EXCHANGE/init."""
    append: str = ""
    """For the kernel's command line."""
    finish: str = "echo b >/proc/sysrq-trigger"
    """What ends the guest when the command is done."""


BARE = System()
"""No services, and forgotten at the end."""


class VirtualMachineError(Exception):
    """The guest could not be started, crashed, or was not done in time."""


class Kernel(NamedTuple):
    """An unpacked kernel package."""

    image: Path
    version: str

    @property
    def root(self) -> Path:
        return self.image.parent.parent


def why_not() -> str | None:
    """One line that says why this machine cannot run the guest; None if it can."""
    if os.uname().machine != "x86_64":
        return "the virtual machine is an x86_64, this machine is not"
    missing = {package for name, package in PROGRAMS.items() if not shutil.which(name, path=PATH)}
    if missing:
        return f"Debian packages are missing: {' '.join(sorted(missing))}"
    if b"/ld-linux" in _program("busybox").read_bytes()[:4096]:
        return "busybox is not static: install the Debian package busybox-static"
    if not _unpacked() and not _kernel_package():
        return "apt knows no package linux-image-amd64 (apt-get update?)"
    return None


def prepare() -> Kernel:
    """The kernel in the cache; the first time, fetch it by apt (70 MB) and unpack it (400 MB)."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return _unpacked() or _fetch()


def run(
    command: Sequence[str] | str,
    *,
    timeout: float,
    cwd: Path = PROJECT,
    env: Mapping[str, str] | None = None,
    progress: TextIO | io.TextIOBase | None = None,
    cpus: int = 2,
    memory: str = "1G",
    qemu_options: Sequence[str] = (),
    system: System = BARE,
) -> subprocess.CompletedProcess[str]:
    """Boot, run `command` as root (a string: by sh), power off: all within `timeout` seconds.

    `stdout` is whatever the command wrote, its standard error too; `progress` gets it meanwhile.
    `stderr` is the guest's console. `returncode` is as a shell has it: 128 + n for signal n.
    The environment is PATH, HOME, LANG and `env`.
    """
    kernel = prepare()
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="run-") as scratch:
        console, exchange = Path(scratch, "console"), Path(scratch, "exchange")
        exchange.mkdir()
        (exchange / "init").write_text(f"{GUEST_INIT}{system.finish}\n")
        (exchange / "command").write_text(_script(command, cwd, env or {}))
        (exchange / "output").touch()
        initramfs = _initramfs(kernel, Path(scratch), system)
        machine = ["-smp", str(cpus), "-m", memory, *_shares(exchange), *qemu_options]
        machine += ["-append", f"console=ttyS0 oops=panic panic=-1 {system.append}"]
        in_time = _boot(kernel, initramfs, machine, console, exchange / "output", progress, timeout)
        output, messages = _text(exchange / "output"), _text(console)
        status = _text(exchange / "status").strip()
    if not status:
        fate = "ended without an exit status" if in_time else f"was not done after {timeout:g} s"
        last = f"last output:\n{_tail(output)}\nlast words on the console:\n{_tail(messages)}"
        raise VirtualMachineError(f"the virtual machine {fate}; {last}")
    return subprocess.CompletedProcess(command, int(status), output, messages)


def _program(name: str) -> Path:
    if found := shutil.which(name, path=PATH):
        return Path(found)
    raise VirtualMachineError(f"{name} is not installed (Debian package {PROGRAMS[name]})")


def _call(name: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run a program of the host; what it writes to its standard output."""
    done = subprocess.run(
        [_program(name), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    if done.returncode:
        raise VirtualMachineError(f"{name} {shlex.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _kernel_package() -> str | None:
    """The package behind linux-image-amd64, with the version in its name."""
    with contextlib.suppress(VirtualMachineError):  # a package that apt does not know
        depends = _call("apt-cache", "depends", "linux-image-amd64")
        if found := re.search(r"Depends: (linux-image-\S+)", depends):
            return found[1]
    return None


def _unpacked() -> Kernel | None:
    for image in CACHE.glob("linux-image-*/boot/vmlinuz-*"):
        return Kernel(image, image.name.removeprefix("vmlinuz-"))
    return None


def _fetch() -> Kernel:
    package = _kernel_package()
    if package is None:
        raise VirtualMachineError(why_not())
    version = package.removeprefix("linux-image-")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetch-") as scratch:
        # Without this option apt complains that its own user cannot write to the folder.
        unsandboxed = ("-o", "APT::Sandbox::User=root")
        _call("apt-get", *unsandboxed, "download", package, cwd=Path(scratch))
        (archive,) = Path(scratch).glob("*.deb")
        unpacked = Path(scratch, "unpacked")
        _call("dpkg-deb", "-x", str(archive), str(unpacked))
        _call("depmod", "-b", str(unpacked), version)
        with contextlib.suppress(OSError):  # another process was faster
            unpacked.rename(CACHE / package)
    return Kernel(CACHE / package / "boot" / f"vmlinuz-{version}", version)


def _script(command: Sequence[str] | str, cwd: Path, env: Mapping[str, str]) -> str:
    # Unbuffered: otherwise the progress of a Python program shows at its end.
    variables = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **env}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    line = command if isinstance(command, str) else shlex.join(command)
    return "\n".join([*exports, f"cd {shlex.quote(str(cwd))} || exit", line, ""])


def _initramfs(kernel: Kernel, scratch: Path, system: System) -> Path:
    root = scratch / "initramfs-root"
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    shutil.copy(_program("busybox"), root / "bin/busybox")
    for number, module in enumerate(_modules(kernel, system.modules)):
        shutil.copy(module, root / "modules" / f"{number:02}-{module.name}")
    modules = shlex.quote(str(kernel.root / "lib/modules" / kernel.version))
    values = {"share": SHARE, "exchange": EXCHANGE, "modules": modules, "version": kernel.version}
    values |= {"upper": system.upper, "start": system.start}
    (root / "init").write_text(INITRAMFS_INIT.format(**values))
    (root / "init").chmod(0o755)
    _call("busybox", "sh", "-c", "busybox find . | busybox cpio -o -H newc >../initramfs", cwd=root)
    return scratch / "initramfs"


def _modules(kernel: Kernel, names: tuple[str, ...]) -> list[Path]:
    """The files of these and of what they need, in the order of loading."""
    where = ("-d", str(kernel.root), "-S", kernel.version)
    # An empty configuration: options and aliases of the host are not meant for the guest.
    listed = _call("modprobe", "-C", os.devnull, *where, "--show-depends", "--all", *names)
    files = re.findall(r"^insmod (\S.*\S)\s*$", listed, re.MULTILINE)
    return [Path(file) for file in dict.fromkeys(files)]


def _shares(exchange: Path) -> list[str]:
    """QEMU's options for the two folders of the guest: the host's root, read-only; `exchange`."""
    where = str(exchange).replace(",", ",,")
    return [
        *("-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
        *("-fsdev", f"local,id=exchange,path={where},security_model=none"),
        *("-device", "virtio-9p-pci,fsdev=exchange,mount_tag=exchange"),
    ]


def _boot(
    kernel: Kernel,
    initramfs: Path,
    machine: list[str],
    console: Path,
    output: Path,
    progress: TextIO | io.TextIOBase | None,
    timeout: float,
) -> bool:
    """Run QEMU; False if it had to be killed because the time was up."""
    arguments = [
        # If this process is killed, so is QEMU.
        *(str(_program("setpriv")), "--pdeathsig", "KILL", str(_program("qemu-system-x86_64"))),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
        # Emulation even where there is a /dev/kvm: not every one can run an ordinary kernel.
        *("-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs)),
        # A crash becomes a reset (panic=-1), which is the end (-no-reboot).
        "-no-reboot",
        *machine,
    ]
    deadline = time.monotonic() + timeout
    with (
        console.open("wb") as messages,
        output.open("rb") as written,
        subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process alone, which then ends QEMU
        ) as qemu,
    ):
        try:
            while qemu.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    qemu.wait(0.1)
                if progress is not None:
                    progress.write(written.read().decode(errors="replace"))
                    progress.flush()
            return qemu.poll() is not None
        finally:
            qemu.kill()


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _tail(text: str, lines: int = 40) -> str:
    return "\n".join(text.splitlines()[-lines:])
