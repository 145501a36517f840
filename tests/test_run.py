"""``cuse-crypto run``: as an ordinary user and as root, and where a machine forbids it."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Compile, eventually
from tests.ptys import CTRL_C, CTRL_Z, ENTER, Pty
from tests.running import (
    ABC,
    HASH,
    RUN,
    Running,
    is_alive,
    members,
    mount_namespace,
    output,
    output_of,
    run,
    serving,
    session,
)
from tests.talkers import Talker
from tests.unprivileged import UID, as_user

pytestmark = pytest.mark.node

CLASSIC = PROJECT / "chat" / "classic"
NAMES = "crypto", "cryptodev0"
SLEEP = "sleep 1000 & echo here; exec sleep 1000"


@pytest.fixture
def user(tmp_path: Path) -> list[str]:
    """What makes a command an ordinary user's, who may reach what is below ``tmp_path``."""
    tmp_path.chmod(0o755)
    return [] if os.geteuid() else as_user("--open", tmp_path)


@pytest.fixture(params=["user", "root"])
def who(request: pytest.FixtureRequest, user: list[str]) -> list[str]:
    """The same, or nothing: then it is root's."""
    if request.param == "user":
        return user
    if os.geteuid():
        pytest.skip("not root")
    return []


def test_python_and_both_names(who: list[str]) -> None:
    for name in ("/dev/crypto", "/dev/cryptodev0"):
        assert output(who, sys.executable, "-P", "-c", HASH, name) == f"{ABC}\n"
    for name in NAMES:
        assert not os.path.exists(f"/dev/{name}") or os.geteuid()


@pytest.mark.parametrize("language", ["C", "Python"])
def test_chat(user: list[str], language: str, compile_c: Compile, tmp_path: Path) -> None:
    programs = {}
    for name in ("chat_server", "chat_client"):
        programs[name] = tmp_path / name
        programs[name].write_bytes(compile_c(CLASSIC / f"{name}.c").read_bytes())
        programs[name].chmod(0o755)
    client: list[object] = [programs["chat_client"]]
    if language == "Python":
        client = [sys.executable, CLASSIC / "chat_client.py"]
    with Talker(*user, *RUN, "--", programs["chat_server"], 0) as server:
        port = server.hear().removeprefix("listening on port ")
        with Talker(*user, *RUN, "--", *client, "127.0.0.1", port) as member:
            assert member.hear() == f"connected to 127.0.0.1 port {port}"
            assert server.hear().startswith("connected to 127.0.0.1")
            member.say("from a namespace")
            assert server.hear() == "peer: from a namespace"
            server.say("from another one")
            assert member.hear() == "peer: from another one"
            assert member.end() == 0
        assert server.hear() == "peer left"
        assert server.stop(signal.SIGTERM) == 0


def test_pipeline(user: list[str], tmp_path: Path) -> None:
    """Its standard streams are the program's alone; the end of one is seen by the next."""
    script = tmp_path / "hash.py"
    script.write_text(
        "import sys; from cuse_crypto import CryptoDevice\n"
        "with CryptoDevice('/dev/crypto') as device:\n"
        "    data = sys.stdin.buffer.read()\n"
        "    print(device.hash('sha256', data).hexdigest())\n"
    )
    words = " ".join([*user, *RUN, "--"])
    inner = f"{sys.executable} -P {script} | tr a-f A-F"
    line = f"printf abc | {words} sh -c '{inner}' | cat; echo ${{PIPESTATUS[*]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == (f"{ABC.upper()}\n0 0 0\n", "")


def test_who_the_program_is(who: list[str]) -> None:
    """The process that was started, with its uid, its folder, and no more rights than before."""
    said = (
        "echo $$; pwd; id -u; id -g; grep -E 'Cap(Eff|Prm|Inh)|SigIgn|NoNewPrivs' /proc/self/status"
    )
    with Talker(*who, *RUN, "--", "sh", "-c", said) as inside:
        pid, *seen = [inside.hear() for _ in range(9)]
        assert int(pid) == inside.process.pid
        assert inside.end() == 0
    with Talker(*who, "sh", "-c", said) as outside:
        assert [outside.hear() for _ in range(9)][1:] == seen


def test_exit_status(who: list[str]) -> None:
    assert run(who, "sh", "-c", "exit 7").returncode == 7
    done = run(who, "sh", "-c", "ulimit -c 0; kill -ABRT $$")
    assert (done.returncode, done.stderr) == (-signal.SIGABRT, "")


def test_no_program(user: list[str], tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    plain.chmod(0o644)
    lost = tmp_path / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    lost.chmod(0o755)
    for name, status in (
        ("no-such-program", 127),
        (tmp_path / "none", 127),
        (lost, 127),
        (plain, 126),
        (tmp_path, 126),
    ):
        done = run(user, name)
        assert (done.returncode, done.stdout) == (status, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"cuse-crypto: {name}: ")


def test_script_that_does_not_say_what_it_is(user: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo $1\n")
    script.chmod(0o755)
    assert output(user, script, "as a shell's") == "as a shell's\n"


def test_usage(user: list[str]) -> None:
    assert run(user).returncode == 2
    assert run(user, "true", options=["--engine", "magic"]).returncode == 2
    # What follows the program's name is the program's.
    assert output(user, "echo", "--engine", "-v") == "--engine -v\n"


SIGNALS = signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGWINCH


def test_signals_are_the_programs(user: list[str]) -> None:
    program = (
        "import signal\n"
        f"numbers = {[int(number) for number in SIGNALS]}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        "print('here', flush=True)\n"
        "for _ in numbers: print(int(signal.sigwait(numbers)), flush=True)\n"
    )
    with Running(user, sys.executable, "-c", program) as running:
        for number in SIGNALS:
            running.process.send_signal(number)
            assert running.hear() == str(int(number))
        assert running.end() == 0
        eventually(running.is_gone)


def test_concurrent_runs_do_not_see_each_other(user: list[str]) -> None:
    program = (
        "import os, sys\n"
        "from cuse_crypto import CryptoDevice\n"
        "with CryptoDevice('/dev/crypto') as device:\n"
        "    print('here', flush=True)\n"
        "    print(os.stat('/dev/crypto').st_dev, os.stat('/dev/cryptodev0').st_dev, flush=True)\n"
        "    input()\n"
        "    print(device.hash('sha256', b'abc').hexdigest(), flush=True)\n"
    )
    before = mounts()
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(Running(user, sys.executable, "-P", "-c", program))
            for _ in range(3)
        ]
        devices = [running.hear().split() for running in runs]
        assert all(one == other for one, other in devices)
        assert len({one for one, _ in devices}) == 3
        assert len({running.namespace for running in runs}) == 3
        assert not runs[0].daemons & runs[1].daemons
        # Nor does the machine see them.
        assert mounts() == before
        runs[0].process.kill()
        eventually(runs[0].is_gone)
        for running in runs[1:]:
            running.say("")
            assert running.hear() == ABC
            assert running.end() == 0
            eventually(running.is_gone)


def mounts() -> set[str]:
    """Of this kind, in the mount namespace of this process."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if line.split()[4] in {f"/dev/{name}" for name in NAMES}}


VICTIMS = "program", "backend", "device", "guard 1", "guard 2"


@pytest.mark.parametrize(
    ("victim", "as_root"), [*((one, False) for one in VICTIMS), ("program", True), ("device", True)]
)
def test_who_is_killed_takes_all_along(user: list[str], victim: str, as_root: bool) -> None:
    with Running([] if as_root else user, "sh", "-c", SLEEP) as running:
        assert len(running.daemons) == 5, "with the nursery"
        assert len(members(running.namespace)) == 6, "the back end sees the machine's /dev"
        os.kill(running.pid if victim == "program" else running.role(victim), signal.SIGKILL)
        status = running.process.wait(timeout=30)
        assert status == -(signal.SIGKILL if victim == "program" else signal.SIGTERM)
        eventually(running.is_gone)
        assert running.process.stderr
        said = running.process.stderr.read().splitlines()
    assert len(said) == (victim != "program"), said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_before_it_has_begun(user: list[str], number: int) -> None:
    with Talker(*user, *RUN, "--", "sleep", "1000", stderr=subprocess.PIPE) as starting:
        pid = starting.process.pid
        eventually(lambda: bool(serving(pid)))
        namespace, daemons = mount_namespace(pid), session(pid)
        starting.process.send_signal(number)
        assert starting.end() == -number
        eventually(lambda: not members(namespace) and not any(map(is_alive, daemons)))
        assert starting.process.stderr
        assert starting.process.stderr.read() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="a user of its own, of whom there are no others")
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_limit_on_processes(processes: int) -> None:
    done = run([*as_user("--uid", UID + processes), "prlimit", f"--nproc={processes}"], "true")
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.startswith("cuse-crypto: no device can be made: ")
    assert line.endswith("; look at ulimit -a")


@pytest.mark.parametrize(
    ("before", "status"), [("", signal.SIGTERM), ("trap '' TERM; ", signal.SIGKILL)]
)
def test_what_is_stopped_ends_too(user: list[str], before: str, status: int) -> None:
    program = f"{before}echo here; kill -STOP $$; while :; do sleep 1000; done"
    with Running(user, "sh", "-c", program) as running:
        os.kill(running.role("backend"), signal.SIGKILL)
        assert running.process.wait(timeout=30) == -status
        eventually(running.is_gone)


def test_what_is_left_behind_ends(user: list[str]) -> None:
    program = (
        "sleep 1000 & setsid sleep 1000 & trap '' TERM; sleep 1000 & echo here; read line; true"
    )
    with Running(user, "sh", "-c", program) as running:
        assert running.end() == 0
        eventually(running.is_gone)


def test_descriptors(user: list[str]) -> None:
    """The program has those it was given; those user serve it have none of them."""
    reading, writing = os.pipe()
    with open(reading) as pipe:
        done = run(
            user, "bash", "-c", f"echo passed on >&{writing}; ls /proc/self/fd", pass_fds=[writing]
        )
        os.close(writing)
        assert pipe.read() == "passed on\n"
    assert {*done.stdout.split()} == {"0", "1", "2", "3", str(writing)}


def test_closed_streams(user: list[str], tmp_path: Path) -> None:
    """They stay closed, and nothing of ours goes by their numbers."""
    tmp_path.chmod(0o777)
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *user]
    seen = []
    for words in ([], [*RUN, "--"]):
        path = tmp_path / f"{len(words)}"
        look = ["sh", "-c", 'ls /proc/$$/fd >"$0"; exit 7', str(path)]
        done = subprocess.run([*closed, *words, *look], check=False, timeout=60)
        assert done.returncode == 7
        seen.append(path.read_text())
    assert seen[0] == seen[1]


def test_the_rest_of_dev_is_as_it_was(who: list[str]) -> None:
    program = (
        "import json, os, stat\n"
        "seen = {}\n"
        "for name in os.listdir('/dev'):\n"
        "    try: status = os.lstat(f'/dev/{name}')\n"
        "    except OSError: continue\n"
        "    link = os.readlink(f'/dev/{name}') if os.path.islink(f'/dev/{name}') else ''\n"
        # What others serve meanwhile, and what is another way to it.
        "    if not stat.S_ISREG(status.st_mode) and '.host' not in (name, link.split('/')[0]):\n"
        "        seen[name] = status\n"
        "print(json.dumps({name: [s.st_mode, s.st_rdev] for name, s in seen.items()}))\n"
        "open('/dev/null', 'w').write('x'); open('/dev/zero', 'rb').read(1)\n"
        "os.close(os.openpty()[0])\n"
        "try: open('/dev/new', 'w'); os.unlink('/dev/new')\n"
        "except PermissionError: pass\n"
        "else: assert not os.getuid()\n"
    )
    seen = json.loads(output(who, sys.executable, "-c", program))
    there = json.loads(output_of([*who, sys.executable, "-c", program]))
    assert there.pop("ptmx", None)
    assert seen == there
    assert seen.keys() >= {"null", "zero", "tty", "pts", "shm", "fd"}


def test_a_descriptor_by_the_driver(user: list[str]) -> None:
    """CRIOGET: the front end may trace the program, as an ordinary user too."""
    program = (
        "import fcntl, os\n"
        "from cuse_crypto.abi import ioctls\n"
        "row = next(row for row in ioctls.IOCTLS if row.name == 'CRIOGET')\n"
        "fd, number = os.open('/dev/crypto', os.O_RDWR), bytearray(4)\n"
        "fcntl.ioctl(fd, row.number(64), number)\n"
        "print(os.path.sameopenfile(fd, int.from_bytes(number, 'little')))\n"
    )
    assert output(user, sys.executable, "-P", "-c", program) == "True\n"


def test_no_descriptor_for_a_program_that_nobody_may_look_at(user: list[str]) -> None:
    """It is refused at once: a helper without capabilities could not trace it."""
    program = (
        "import ctypes, fcntl, os, time\n"
        "from cuse_crypto.abi import ioctls\n"
        "row = next(row for row in ioctls.IOCTLS if row.name == 'CRIOGET')\n"
        "fd, began = os.open('/dev/crypto', os.O_RDWR), time.monotonic()\n"
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "try:\n"
        "    fcntl.ioctl(fd, row.number(64), bytearray(4))\n"
        "except OSError as error:\n"
        "    print(error.errno, time.monotonic() - began < 0.9)\n"
    )
    done = run(user, sys.executable, "-P", "-c", program)
    assert done.stdout == f"{errno.EOPNOTSUPP} True\n"
    (line,) = done.stderr.splitlines()
    assert "not dumpable" in line


def test_in_another_run(user: list[str]) -> None:
    """The outer one's /dev/crypto is the host's of the inner one."""
    inner = [*RUN, "--engine", "cryptodev", "--", sys.executable, "-P", "-c", HASH, "/dev/crypto"]
    assert output(user, *inner) == f"{ABC}\n"


def test_options(user: list[str]) -> None:
    program = (
        "import os\n"
        "files = []\n"
        "try:\n"
        "    while True: files.append(os.open('/dev/crypto', os.O_RDWR))\n"
        "except OSError as error: print(len(files), error.strerror)\n"
    )
    done = run(
        user, sys.executable, "-c", program, options=["--max-files", "3", "--engine", "null"]
    )
    if user:
        assert done.stdout == "3 Too many open files\n"


@pytest.fixture
def terminal(user: list[str]) -> Iterator[Callable[..., Pty]]:
    """``terminal(program...)``: in a terminal."""
    with contextlib.ExitStack() as stack:
        yield lambda *program: stack.enter_context(Pty(program=[*user, *program]))


PROMPT = "PS1=ready> "


def test_job_control_of_a_shell_inside(terminal: Callable[..., Pty]) -> None:
    pty = terminal(*RUN, "--", "env", PROMPT, "bash", "--norc", "-i")
    pty.shows("ready>")
    pty.type("bash -c \"trap 'echo again' CONT; echo here; while :; do sleep 0.05; done\"" + ENTER)
    pty.shows("\nhere")
    pty.type(CTRL_Z)
    pty.shows("Stopped")
    pty.type("fg" + ENTER)
    pty.shows("\nagain")
    pty.type(CTRL_C)
    pty.until(lambda screen: screen.rstrip().endswith("^C\nready>"))
    pty.type("echo $((100 + $?))" + ENTER)
    pty.shows("230")
    pty.resize(30, 90)
    pty.type("stty size" + ENTER)
    pty.shows("30 90")
    pty.type("tty; test -r /dev/crypto && exit 7" + ENTER)
    assert pty.wait() == 7
    pty.shows("/dev/pts/")


def test_job_control_of_a_shell_outside(terminal: Callable[..., Pty]) -> None:
    pty = terminal("env", PROMPT, "bash", "--norc", "-i")
    pty.shows("ready>")
    program = "trap 'echo resized' WINCH; trap 'echo again' CONT; echo started; "
    program += "while :; do sleep 0.05; done"
    pty.type(f'{" ".join(RUN)} -- bash -c "{program}"' + ENTER)
    pty.shows("\nstarted")
    pty.resize(30, 90)
    pty.shows("\nresized")
    pty.type(CTRL_Z)
    pty.shows("Stopped")
    pty.type("fg" + ENTER)
    pty.shows("\nagain")
    pty.type(CTRL_C)
    pty.until(lambda screen: screen.rstrip().endswith("^C\nready>"))
    pty.type("echo $((100 + $?))" + ENTER)
    pty.shows("230")
    pty.type("exit" + ENTER)
    pty.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="to know the user takes root")
def test_rights_of_those_who_serve() -> None:
    with Running(as_user(), "sh", "-c", SLEEP) as running:
        for role in ("backend", "device", "guard 1", "guard 2"):
            text = Path(f"/proc/{running.role(role)}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            assert fields["Uid"].split() == [str(UID)] * 4
            assert fields["NoNewPrivs"] == "1"
            assert fields["CapBnd"].strip("0") == ""
            assert fields["Seccomp"] == ("2" if role == "backend" else "0")
        streams = {os.readlink(f"/proc/{running.pid}/fd/{number}") for number in range(2)}
        for pid in running.daemons:
            held = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
            assert not held & streams, "the end of a pipe is the program's to give"
