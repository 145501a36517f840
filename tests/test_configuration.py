"""The configuration file: what stands in it is taken, what is wrong in it is told with its line."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cuse_crypto.cli import configuration
from cuse_crypto.cli.configuration import Configuration, OfInstance, configurable
from cuse_crypto.cli.main import cli
from cuse_crypto.errors import Failure
from scripts.configuration_reference import DOCUMENT, updated
from tests.conftest import PROJECT


@click.group()
@click.option("--config", type=click.Path(path_type=Path))
@click.pass_context
def group(ctx: click.Context, config: Path) -> None:
    assert isinstance(ctx.command, click.Group)
    Configuration.read(config).apply(ctx, ctx.command)


@group.command(cls=OfInstance, instance="name")
@click.option("--count", type=click.IntRange(1, 9), default=1)
@click.option("--seconds", type=float, default=1.0)
@click.option("--node", "kind", type=click.Choice(["auto", "cuse"]), default="auto")
@click.option("--allow-uid", "uids", type=int, multiple=True)
@click.option("--safe/--no-safe", default=True)
@click.option("--name", default="first")
@click.option("--secret", hidden=True)
def one(**options: object) -> None:
    click.echo(json.dumps(options))


@group.group()
def two() -> None:
    pass


@two.command()
@click.option("--port", type=int, required=True)
def three(port: int) -> None:
    click.echo(port)


DEFAULTS = {"count": 1, "seconds": 1.0, "kind": "auto", "uids": [], "safe": True, "name": "first"}


def run(tmp_path: Path, text: str, *arguments: str) -> object:
    """What the command got; the text of its Failure."""
    file = tmp_path / "file.toml"
    file.write_text(text)
    done = CliRunner().invoke(group, ["--config", str(file), *arguments])
    if isinstance(done.exception, Failure):
        return str(done.exception).removeprefix(f"{tmp_path}/")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_options_are_taken_and_the_command_line_wins(tmp_path: Path) -> None:
    text = '[one]\ncount = 3\nseconds = 2\nnode = "cuse"\nallow-uid = [5, 6]\nsafe = false\n'
    taken = {"count": 3, "seconds": 2.0, "kind": "cuse", "uids": [5, 6], "safe": False}
    assert run(tmp_path, text, "one") == {**DEFAULTS, **taken, "secret": None}
    line = ["--count", "4", "--safe", "--allow-uid", "7"]
    told = {"count": 4, "safe": True, "uids": [7]}
    assert run(tmp_path, text, "one", *line) == {**DEFAULTS, **taken, **told, "secret": None}


@pytest.mark.parametrize(("name", "count"), [("first", 2), ("other", 3), ("third", 1)])
def test_an_instance_has_a_table_of_its_own(tmp_path: Path, name: str, count: int) -> None:
    text = "[one]\nseconds = 5\n[one.first]\ncount = 2\n[one.other]\ncount = 3\n"
    got = run(tmp_path, text, "one", *(["--name", name] if name != "first" else []))
    assert got == {**DEFAULTS, "secret": None, "seconds": 5.0, "count": count, "name": name}


def test_of_what_may_come_often_one_needs_no_list(tmp_path: Path) -> None:
    got = run(tmp_path, "[one]\nallow-uid = 5\n", "one")
    assert got == {**DEFAULTS, "secret": None, "uids": [5]}


def test_commands_of_a_group(tmp_path: Path) -> None:
    assert run(tmp_path, "[two.three]\nport = 12\n", "two", "three") == 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[one]\n\ncolour = 1\n", "file.toml:3: [one] has no 'colour'; see cuse-crypto one --help"),
        ("[one]\nsecret = 'x'\n", "file.toml:2: [one] has no 'secret'"),
        ("[one]\nkind = 'cuse'\n", "file.toml:2: [one] has no 'kind'"),
        ("[one]\nuids = []\n", "file.toml:2: [one] has no 'uids'"),
        ("[five]\n", "file.toml:1: no command is called 'five'"),
        ("[one]\n# a\n\ncount = 'many'\n", "file.toml:4: count is to be a whole number, and not "),
        ("[one]\ncount = true\n", "file.toml:2: count is to be a whole number, and not True"),
        ("[one]\ncount = 10\n", "file.toml:2: count: 10 is not in the range 1<=x<=9."),
        ("[one]\nsafe = 1\n", "file.toml:2: safe is to be true or false, and not 1"),
        ("[one]\nseconds = '1'\n", "file.toml:2: seconds is to be a number, and not '1'"),
        ("[one]\nallow-uid = 'x'\n", "file.toml:2: allow-uid is to be a whole number, or a list"),
        ("[one]\nallow-uid = [\n 5,\n 'x',\n]\n", "file.toml:5: allow-uid is to be a whole "),
        ("[one]\nnode = 'none'\n", "file.toml:2: node: 'none' is not one of 'auto', 'cuse'."),
        ("one = 1\n", "file.toml:1: 'one' is a table: write [one]"),
        ("[one.first]\ncolour = 1\n", "file.toml:2: [one.first] has no 'colour'"),
        ("[one]\n[one.other]\nname = 'x'\n", "file.toml:3: 'name' has no place in [one.other]"),
        ("[one.other.more]\n", "file.toml:1: 'more' has no place in [one.other]"),
        ("[one]\ncount == 1\n", "file.toml: Invalid value (at line 2, column 8)"),
        ("[one]\ncount = 1\ncount = 2\n", "file.toml: Cannot overwrite a value (at line 3"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert str(run(tmp_path, text, "one")).startswith(said)


def test_a_command_reads_its_own_table_alone(tmp_path: Path) -> None:
    """What is wrong for one must not stop the others; ``service install`` looks at all."""
    assert run(tmp_path, "[two.three]\nport = 'x'\n[one]\ncount = 2\n", "one")
    context = click.Context(group)
    with pytest.raises(Failure, match="port is to be a whole number"):
        Configuration(Path("f"), "[two.three]\nport = 'x'\n").check(context, group)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = tmp_path / "absent.toml"
    with pytest.raises(Failure, match=r"absent\.toml: No such file or directory; give another"):
        Configuration.read(absent)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Failure, match="binary is no text"):
        Configuration.read(tmp_path / "binary")
    monkeypatch.setattr(configuration, "DEFAULT", absent)
    assert Configuration.read(absent).tables == {}


def test_every_option_of_the_command_line_can_come_from_the_file() -> None:
    context = click.Context(cli)
    for keys, command, options in configurable(cli, context):
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                name = configuration.long_name(parameter)
                assert name.startswith("--"), (keys, parameter.opts)
                assert name.removeprefix("--") in options


def test_the_file_that_comes_with_it_is_right() -> None:
    path = PROJECT / "systemd" / "cuse-crypto.toml"
    text = path.read_text()
    Configuration(path, text).check(click.Context(cli), cli)
    # Its examples too.
    lines = [line.removeprefix("#     ") for line in text.splitlines()]
    examples = "\n".join(lines[lines.index("[device.cryptodev1]") :])
    Configuration(path, examples).check(click.Context(cli), cli)


def test_the_reference_is_what_the_parser_says() -> None:
    text = DOCUMENT.read_text()
    assert updated(text) == text, "python -m scripts.configuration_reference"
