"""The wheel and the sdist: what is in them, and that they run where nothing else is installed."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import cuse_crypto
from cuse_crypto.extras import EXTRAS
from tests.conftest import PROJECT, Service, fresh_name

PACKAGES = {
    "cuse_crypto": PROJECT / "cuse_crypto",
    "cuse_crypto_backend": PROJECT / "backend/cuse_crypto_backend",
    "cuse_crypto_chat": PROJECT / "chat/cuse_crypto_chat",
}
RELEASE = f"cuse_crypto-{cuse_crypto.__version__}"
MATPLOTLIB = "a plot takes matplotlib, which is not installed; "

ENCRYPT = """
import sys
from cuse_crypto import CryptoDevice
with CryptoDevice(sys.argv[1]) as device, device.cipher("aes-cbc", bytes(16)) as session:
    print(session.encrypt(bytes(16), iv=bytes(16)).hex())
"""
ENCRYPTED = "66e94bd4ef8a2c3b884cfa59ca342b2e"
"""AES-128 of zeros under a key of zeros, as in GCM's specification (H of test case 1)."""


def run(*command: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Away from the project, without what pytest's Python has."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd="/",
        env=environment | settings,
    )


def done(*command: object, **settings: str) -> str:
    """What it says when it succeeds."""
    ended = run(*command, **settings)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both; the wheel is made from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    done(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, PROJECT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"{RELEASE}-py3-none-any.whl"


@pytest.fixture(scope="module")
def wheelhouse(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the wheel depends on, from the package index; and pip, for pipx."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder]
    fetched = run(*download, wheel, "pip")
    if fetched.returncode and "CI" not in os.environ:
        pytest.skip(f"no package index: {fetched.stderr.strip().splitlines()[-1]}")
    assert not fetched.returncode, fetched.stderr
    return folder


def test_the_wheel_has_three_packages_and_all_their_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    around = {f"{RELEASE}.dist-info", f"{RELEASE}.data"}
    assert {name.partition("/")[0] for name in names} == set(PACKAGES) | around
    for package, folder in PACKAGES.items():
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        here = {f"{package}/{path}" for path in files if "__pycache__" not in path.parts}
        units = {f"cuse_crypto/systemd/{path.name}" for path in (PROJECT / "systemd").iterdir()}
        extra = ({"cuse_crypto_chat/WIRE.md"} | units) & names
        assert {name for name in names if name.startswith(f"{package}/")} - extra == here
    assert {
        "cuse_crypto/py.typed",
        "cuse_crypto/include/crypto/cryptodev.h",
        "cuse_crypto/wire/PROTOCOL.md",
        "cuse_crypto_chat/WIRE.md",
        f"{RELEASE}.data/data/share/man/man1/cuse-crypto.1",
    } <= names


def test_the_sdist_has_what_git_has(built: Path) -> None:
    with tarfile.open(built / f"{RELEASE}.tar.gz") as archive:
        names = {member.name.removeprefix(f"{RELEASE}/") for member in archive.getmembers()}
    tracked = subprocess.run(
        ["git", "-C", PROJECT, "ls-files"], capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip("this is no clone")
    present = {name for name in tracked.stdout.splitlines() if (PROJECT / name).exists()}
    assert present - names == set()


def test_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    for name, extra in EXTRAS.items():
        assert [one for one in optional[name] if one.startswith(extra.module)], name
        assert not [one for one in project["dependencies"] if one.startswith(extra.module)]


@pytest.fixture(scope="module")
def clean(wheel: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    done(*pip, "--quiet", "--no-index", "--find-links", wheelhouse, "--no-compile", wheel)
    return folder


def test_it_runs_from_a_clean_environment(clean: Path) -> None:
    program = clean / "bin" / "cuse-crypto"
    assert done(program, "--version") == f"cuse-crypto, version {cuse_crypto.__version__}"
    assert "auto takes: node" in run(program, "doctor").stdout
    assert Path(done(program, "include-dir"), "crypto", "cryptodev.h").is_file()
    assert done(program, "man").splitlines()[0].startswith(".TH CUSE-CRYPTO 1 ")
    assert (clean / "share" / "man" / "man1" / "cuse-crypto.1").is_file()
    assert done(clean / "bin" / "python", "-m", "cuse_crypto", "chat", "--help")


@pytest.mark.node
def test_it_serves_from_a_clean_environment(clean: Path, served: Service) -> None:
    assert done(clean / "bin" / "python", "-c", ENCRYPT, served.path) == ENCRYPTED


@pytest.fixture
def served(clean: Path, node_kind: str, tmp_path: Path) -> Iterator[Service]:
    """``up`` of the clean environment, where nobody may import what is for terminals."""
    for module in ("rich", "prompt_toolkit"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(__name__)")
    path = Path("/dev", fresh_name())
    process = subprocess.Popen(
        [clean / "bin" / "cuse-crypto", "up", "--name", path.name, "--node", node_kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout
    service = Service(process, process.stdout.readline(), path)
    try:
        assert service.ready.startswith(f"ready: {path} "), service.ready
        yield service
    finally:
        status = service.stop()
    assert status == 0, service.said()
    assert not path.exists()


def test_what_is_missing_is_named_with_its_remedy(clean: Path) -> None:
    told = run(clean / "bin" / "cuse-crypto", "bench", "--plot", "/tmp/none.svg")
    remedy = f"{clean / 'bin' / 'python'} -m pip install matplotlib"
    assert (told.returncode, told.stderr) == (1, f"cuse-crypto: {MATPLOTLIB}{remedy}\n")


def test_pipx(wheel: Path, wheelhouse: Path, tmp_path: Path) -> None:
    home = {
        "PIPX_HOME": str(tmp_path / "home"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_MAN_DIR": str(tmp_path / "man"),
        "PIPX_DEFAULT_BACKEND": "pip",  # uv, where that is installed too
    }
    options = f"--pip-args=--no-index --find-links {wheelhouse} --no-compile"
    done(sys.executable, "-m", "pipx", "install", "--quiet", options, wheel, **home)
    program = tmp_path / "bin" / "cuse-crypto"
    assert cuse_crypto.__version__ in done(program, "--version")
    assert (tmp_path / "man" / "man1" / "cuse-crypto.1").is_file()
    told = run(program, "bench", "--plot", "/tmp/none.svg")
    assert told.stderr == f"cuse-crypto: {MATPLOTLIB}pipx inject cuse-crypto matplotlib\n"


def test_uv_tool(wheel: Path, wheelhouse: Path, tmp_path: Path) -> None:
    home = {
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    options = ["--no-index", "--find-links", wheelhouse, "--python", sys.executable]
    done(sys.executable, "-m", "uv", "tool", "install", "--quiet", *options, wheel, **home)
    program = tmp_path / "bin" / "cuse-crypto"
    assert cuse_crypto.__version__ in done(program, "--version")
    told = run(program, "bench", "--plot", "/tmp/none.svg")
    python = tmp_path / "tools" / "cuse-crypto" / "bin" / "python"
    assert told.stderr.startswith(f"cuse-crypto: {MATPLOTLIB}uv pip install --python {python}")
