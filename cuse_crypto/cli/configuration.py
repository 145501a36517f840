"""The configuration file: a TOML table for each command, a key for each of its options.

What stands there are defaults; the command line wins. A table of ``device`` or ``backend`` may hold
tables of its own, each for the one that is called so: ``[device.cryptodev1]``.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cuse_crypto.errors import Failure

DEFAULT = Path("/etc/cuse-crypto.toml")
VARIABLE = "CUSE_CRYPTO_CONFIG"
"""Names another file, in the environment."""
_INSTANCES = "cuse_crypto.instances"

Table = dict[str, Any]
Keys = tuple[str, ...]


class OfInstance(click.Command):
    """A command of which there may be several at once, told apart by one option."""

    def __init__(self, *arguments: Any, instance: str, **options: Any) -> None:
        """``instance``: the name of that option's parameter."""
        super().__init__(*arguments, **options)
        self.instance = next(one for one in self.params if one.name == instance)
        # So that it is known before the others ask for their defaults.
        self.instance.is_eager = True
        self.instance.callback = _take_instance


def _take_instance(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    instances = ctx.meta.get(_INSTANCES, {})
    ctx.default_map = {**(ctx.default_map or {}), **instances.get(value, {})}
    return value


class Configuration:
    """One file, as it was when it was read."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text
        try:
            self.tables: Table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Failure(f"{path}: {error}") from None

    @classmethod
    def read(cls, path: Path) -> "Configuration":
        """Failure for one that is not TOML, or not there: only the DEFAULT need not be."""
        try:
            return cls(path, path.read_text())
        except UnicodeDecodeError:
            raise Failure(f"{path} is no text") from None
        except OSError as error:
            if path == DEFAULT and isinstance(error, FileNotFoundError):
                return cls(path, "")
            raise Failure(f"{path}: {error.strerror}; give another file with --config") from None

    def apply(self, ctx: click.Context, group: click.Group) -> None:
        """Give the command that ``ctx`` is about to run its defaults; Failure if they are wrong."""
        for name in self.tables:
            if name not in group.list_commands(ctx):
                raise self.wrong((name,), f"no command is called {name!r}")
        name = ctx.invoked_subcommand or ""
        command = group.get_command(ctx, name)
        if command and name in self.tables:
            table = self._table((name,), self.tables[name])
            defaults, instances = self._defaults(command, (name,), table)
            ctx.default_map = {name: defaults}
            ctx.meta[_INSTANCES] = instances

    def check(self, ctx: click.Context, group: click.Group) -> None:
        """Failure for the first thing in it that is wrong, whatever command it is for."""
        for name, value in self.tables.items():
            command = group.get_command(ctx, name)
            if not command:
                raise self.wrong((name,), f"no command is called {name!r}")
            self._defaults(command, (name,), self._table((name,), value))

    def wrong(self, keys: Keys, why: str) -> Failure:
        """The error for what stands at ``keys``."""
        return Failure(f"{self.path}:{self._line(keys)}: {why}")

    def _defaults(self, command: click.Command, keys: Keys, table: Table) -> tuple[Table, Table]:
        """As click wants them, by the names of parameters; those of instances apart."""
        defaults: Table = {}
        instances: Table = {}
        known = options_of(command)
        for key, value in table.items():
            here = (*keys, key)
            option = known.get(key)
            if isinstance(command, click.Group) and key in command.commands:
                inner = self._table(here, value)
                defaults[key], _ = self._defaults(command.commands[key], here, inner)
            elif isinstance(command, OfInstance) and isinstance(value, dict):
                instances[key] = self._of_instance(command, here, value)
            elif option and option.name:
                value = [value] if option.multiple and not isinstance(value, list) else value
                self._check(command, option, here, value)
                defaults[option.name] = value
            else:
                line = " ".join(("cuse-crypto", *keys, "--help"))
                raise self.wrong(here, f"[{'.'.join(keys)}] has no {key!r}; see {line}")
        return defaults, instances

    def _of_instance(self, command: OfInstance, keys: Keys, table: Table) -> Table:
        for key, value in table.items():
            named = options_of(command).get(key)
            if isinstance(value, dict) or named is command.instance:
                raise self.wrong((*keys, key), f"{key!r} has no place in [{'.'.join(keys)}]")
        return self._defaults(command, keys, table)[0]

    def _table(self, keys: Keys, value: Any) -> Table:
        if not isinstance(value, dict):
            raise self.wrong(keys, f"{keys[-1]!r} is a table: write [{'.'.join(keys)}]")
        return value

    def _check(self, command: click.Command, option: click.Option, keys: Keys, value: Any) -> None:
        wanted = _wanted(option)
        values = value if option.multiple else [value]
        if not all(_is(one, wanted) for one in values):
            kind = _WORDS[wanted] + (", or a list of such" if option.multiple else "")
            raise self.wrong(keys, f"{keys[-1]} is to be {kind}, and not {value!r}")
        try:
            option.type_cast_value(click.Context(command, info_name=keys[0]), value)
        except click.BadParameter as error:
            raise self.wrong(keys, f"{keys[-1]}: {error.message}") from None

    def _line(self, keys: Keys) -> int:
        """Where ``keys`` first stand: tomllib does not tell, but reads beginnings of files too."""
        lines = self._text.splitlines()
        for number in range(1, len(lines)):
            try:
                beginning = tomllib.loads("\n".join(lines[:number]))
            except tomllib.TOMLDecodeError:
                continue
            if _holds(beginning, keys):
                return number
        return len(lines)


def options_of(command: click.Command) -> dict[str, click.Option]:
    """What may stand in a command's table: its options, by the long name without its dashes."""
    return {
        long_name(option).removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and option.expose_value
    }


def long_name(option: click.Option) -> str:
    """The first of its names that is a word."""
    return next((name for name in option.opts if name.startswith("--")), option.opts[0])


def configurable(
    group: click.Group, ctx: click.Context, keys: Keys = ()
) -> Iterator[tuple[Keys, click.Command, Mapping[str, click.Option]]]:
    """Each table that a file may have: where it stands, the command, and what it may hold."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command
        here = (*keys, name)
        if options := options_of(command):
            yield here, command, options
        if isinstance(command, click.Group):
            yield from configurable(command, ctx, here)


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _wanted(option: click.Option) -> type:
    if option.is_flag and option.is_bool_flag:
        return bool
    if isinstance(option.type, type(click.INT) | click.IntRange):
        return int
    if isinstance(option.type, type(click.FLOAT) | click.FloatRange):
        return float
    return str


def _is(value: Any, wanted: type) -> bool:
    """A mode may be a number, which TOML writes in octal: 0o660."""
    if wanted is str:
        return isinstance(value, str) or type(value) is int
    if wanted is float:
        return type(value) in (int, float)
    return type(value) is wanted


def _holds(table: Any, keys: Keys) -> bool:
    for key in keys:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True
