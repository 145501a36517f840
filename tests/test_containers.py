"""What docs/containers.md says: a node lent to a container, the service and a back end in one."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Compile, Service, StartDevice, fresh_name, start
from tests.containers import Podman
from tests.test_packaging import ENCRYPTED

HERE = Path(__file__).parent
SERVICE = (sys.executable, "-m", "cuse_crypto", "up")
MAY_SERVE = ("--device=/dev/fuse", "--cap-add=SYS_ADMIN,SYS_PTRACE")
NOTHING = ("--cap-drop=all", "--read-only", "--security-opt=no-new-privileges")
OTHER_USERS = "--uidmap=0:100000:65536"
GROUP = 54321

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    # The folders of tmp_path are closed to users whom containers have.
    with tempfile.TemporaryDirectory(prefix="cryptotest-") as folder:
        Path(folder).chmod(0o755)
        podman = Podman(Path(folder))
        try:
            tried = podman.run(program=("/usr/bin/true",))
            if tried.returncode:
                pytest.skip(f"no container runs here: {tried.stderr.strip()}")
            yield podman
        finally:
            podman.close()


@pytest.fixture(scope="module")
def caller(compile_c: Compile, podman: Podman) -> Path:
    """A static program, where containers find it."""
    return Path(shutil.copy(compile_c(HERE / "c" / "one_block.c", "-static"), podman.folder))


def answer(done: subprocess.CompletedProcess[str]) -> str:
    """What it computed, or why it did not."""
    return (done.stdout + done.stderr).strip()


def lend(service: Service) -> str:
    """A mounted node is a file, a cuse node is a device. It keeps its name: in a user namespace
    runc looks for a device under the name that it has inside."""
    option = "--device" if "(cuse node" in service.ready else "--volume"
    return f"{option}={service.path}:{service.path}"


@pytest.mark.parametrize(
    "options", [(), (*NOTHING, "--user=1000:1000"), (OTHER_USERS,)], ids=["root", "user", "mapped"]
)
def test_a_lent_node(
    podman: Podman, caller: Path, start_up: StartDevice, options: tuple[str, ...]
) -> None:
    service = start_up("--mode", "0666")
    program = (caller, service.path)
    assert answer(podman.run(lend(service), *options, program=program)) == ENCRYPTED
    assert service.stop() == 0


def test_a_lent_node_is_for_whom_its_mode_says(
    podman: Podman, caller: Path, start_up: StartDevice
) -> None:
    service = start_up("--mode", "0660", "--group", str(GROUP))
    program = (caller, service.path)
    user = (lend(service), "--user=1000:1000")
    assert answer(podman.run(*user, program=program)) == "open: Permission denied"
    assert answer(podman.run(*user, f"--group-add={GROUP}", program=program)) == ENCRYPTED
    mapped = (lend(service), OTHER_USERS)
    assert answer(podman.run(*mapped, program=program)) == "open: Permission denied"
    assert service.stop() == 0


def test_a_node_that_is_lent_for_reading_alone_cannot_be_opened(
    podman: Podman, caller: Path, start_up: StartDevice, node_kind: str
) -> None:
    service = start_up()
    option, reason = {
        "mounted": (f"{lend(service)}:ro", "Read-only file system"),
        "cuse": (f"{lend(service)}:r", "Operation not permitted"),
    }[node_kind]
    done = podman.run(option, program=(caller, service.path))
    assert answer(done) == f"open: {reason}"
    assert service.stop() == 0


def test_the_service_in_a_container(podman: Podman, caller: Path) -> None:
    with podman.serving(*MAY_SERVE, program=SERVICE) as (name, service):
        assert service.ready.startswith("ready: /dev/cryptodev0 (mounted node, ")
        assert answer(podman.exec(name, caller)) == ENCRYPTED
        # Processes outside have no number in the container, by which their memory could be reached.
        outside = f"/proc/{podman.pid(name)}/root/dev/cryptodev0"
        called = subprocess.run([caller, outside], capture_output=True, text=True, check=False)
        assert answer(called) == "CIOCGSESSION: Bad address"
    assert service.said() == ""


def test_the_service_in_a_container_that_sees_all_processes(podman: Podman, caller: Path) -> None:
    with podman.serving("--pid=host", *MAY_SERVE, program=SERVICE) as (name, _):
        outside = f"/proc/{podman.pid(name)}/root/dev/cryptodev0"
        called = subprocess.run([caller, outside], capture_output=True, text=True, check=False)
        assert answer(called) == ENCRYPTED


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "/dev/fuse: No such file or directory"),
        (("--device=/dev/fuse",), "run as root with CAP_SYS_ADMIN"),
    ],
)
def test_what_the_service_lacks(podman: Podman, options: tuple[str, ...], complaint: str) -> None:
    done = podman.run(*options, program=SERVICE)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_service_without_ptrace(podman: Podman, caller: Path) -> None:
    options = ("--device=/dev/fuse", "--cap-add=SYS_ADMIN")
    with podman.serving(*options, program=SERVICE) as (name, service):
        assert answer(podman.exec(name, caller)) == "CIOCGSESSION: Bad address"
    assert "callers will get EFAULT" in service.said()
    assert "grant CAP_SYS_PTRACE" in service.said()


def test_a_back_end_in_a_container_that_may_nothing(
    podman: Podman, caller: Path, tmp_path: Path, node_kind: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    options = (*NOTHING, "--user=1000:1000", f"--volume={shared}:/run/cuse-crypto")
    listen = ("--listen", "unix:/run/cuse-crypto/backend.sock", "--allow-uid", "0")
    with podman.serving(*options, program=(*SERVICE[:-1], "backend", *listen)) as (_, service):
        assert service.ready.startswith("ready: unix:/run/cuse-crypto/backend.sock ")
        path = Path("/dev", fresh_name())
        arguments = ("--name", path.name, "--node", node_kind)
        device = start("device", "--backend", f"unix:{shared / 'backend.sock'}", *arguments)
        try:
            called = subprocess.run([caller, path], capture_output=True, text=True, check=False)
            assert answer(called) == ENCRYPTED
        finally:
            assert device.stop() == 0
    assert not list(shared.iterdir())
