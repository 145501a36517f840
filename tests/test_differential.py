"""The node against a model of the API that knows nothing of the front end; see tests/differential.

Longer: ``python -m tests.differential --sequences 20000 --seed N``.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cuse_crypto.cli.doctor import _af_alg
from tests.conftest import PROJECT, Service, StartDevice
from tests.differential import abi, model, primitives, state
from tests.differential.model import DEVIATIONS
from tests.differential.mutants import MUTANTS, Mutant, tried
from tests.differential.player import Place, Player, Sequence, Ses, Step
from tests.differential.search import search, without
from tests.differential.sequences import sequence

SEED = os.environ.get("DIFFERENTIAL_SEED", "ci")
SEQUENCES = int(os.environ.get("DIFFERENTIAL_SEQUENCES", "300"))
PLACE = Place("memory", 1024)
ALLOWED = {"cryptography", "tests", *sys.stdlib_module_names}


@pytest.mark.node
def test_the_node_answers_as_the_model(openssl_device: Service) -> None:
    player = Player(openssl_device.path)
    assert "\n\n".join(map(str, search(player, SEED, SEQUENCES))) == ""
    assert player.tally.total() > 5 * SEQUENCES


@pytest.mark.node
def test_the_engine_of_the_hosts_device_answers_as_the_model(
    start_up: StartDevice, openssl_device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices in a row: the first is the host's device of the second."""
    monkeypatch.setenv("CUSE_CRYPTO_HOST_DEVICE", str(openssl_device.path))
    second = start_up("--engine", "cryptodev")
    found = search(Player(second.path), f"{SEED}/host", SEQUENCES // 3)
    assert "\n\n".join(map(str, found)) == ""
    assert second.stop() == 0


@pytest.mark.node
@pytest.mark.skipif(_af_alg() is not None, reason="no AF_ALG here")
def test_the_engine_of_the_kernels_ciphers_answers_as_the_model(start_up: StartDevice) -> None:
    service = start_up("--engine", "af_alg")
    found = search(Player(service.path), f"{SEED}/af_alg", SEQUENCES // 3)
    assert "\n\n".join(map(str, found)) == ""
    assert service.stop() == 0


@pytest.mark.node
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what.replace(" ", "-"))
def test_a_mistake_is_found(mutant: Mutant, node_kind: str) -> None:
    if node_kind == "cuse":
        pytest.skip("what finds them is the same for both kinds of node")
    assert tried(mutant, "ci", 3000).tries


@pytest.mark.node
def test_the_command(openssl_device: Service) -> None:
    words = [sys.executable, "-m", "tests.differential", "--device", str(openssl_device.path)]
    words += ["--sequences", "20", "--seed", "command"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, timeout=60, check=True)
    assert b"20 sequences of seed command" in done.stdout
    assert b"0 differences" in done.stdout


@pytest.mark.parametrize(
    "module", [abi, model, primitives, state], ids=lambda module: module.__name__
)
def test_the_model_knows_nothing_of_the_project(module: object) -> None:
    text = Path(str(module.__file__)).read_text()  # type: ignore[attr-defined]
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert {name.partition(".")[0] for name in imported} <= ALLOWED
    ours = {name for name in imported if name.startswith("tests.")}
    assert ours <= {f"tests.differential.{name}" for name in ("abi", "primitives", "state")}


def test_every_deviation_is_in_a_line_and_every_line_in_the_table() -> None:
    text = "".join(Path(str(part.__file__)).read_text() for part in (model, primitives, state))
    named = {
        key.strip()
        for keys in re.findall(r"DEVIATIONS?: ([a-z ,]+)", text)
        for key in keys.split(",")
    }
    assert named == set(DEVIATIONS)


def test_a_seed_makes_the_same_sequence_again() -> None:
    assert sequence("a/1") == sequence("a/1") != sequence("a/2")


def test_sessions_are_renumbered_when_one_is_left_out() -> None:
    make = Step("CIOCGSESSION", 0, (11, 0, 16, PLACE, 0, PLACE, 0))
    use = [Step("CIOCFSESSION", 0, (Ses(number),)) for number in range(3)]
    left = without((make, make, make, *use), 1)
    assert [step.values for step in left[2:]] == [(Ses(0),), (0xABCD0001,), (Ses(1),)]


@pytest.mark.node
def test_a_difference_is_shortened(
    openssl_device: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model that is wrong: what finds it is printed without the steps it does not take."""
    monkeypatch.setattr(state, "run", lambda cipher, key, iv, op, data: (data, iv))
    (found, *_) = search(Player(openssl_device.path), SEED, 100)
    assert [step.name for step in found.shortest.steps][:1] == ["CIOCGSESSION"]
    assert len(found.shortest.steps) <= 3
    assert found.seed in str(found)
    assert isinstance(found.shortest, Sequence)
