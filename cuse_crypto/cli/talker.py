"""Who talks in ``cuse-crypto chat``: the options of serve and connect, and what they make."""

import contextlib
import getpass
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from cuse_crypto.cli.options import FunctionT, announce

if TYPE_CHECKING:
    from cuse_crypto_chat.classic_cipher import ClassicCipher
    from cuse_crypto_chat.screen import Screen
    from cuse_crypto_chat.sealing import Sealer

EXISTING = click.Path(path_type=Path)


def talker_options(function: FunctionT) -> FunctionT:
    """The options of serve and connect."""
    for option in reversed(
        (
            click.option(
                "--wire",
                type=click.Choice(["sealed", "classic"]),
                default="sealed",
                show_default=True,
                help="End to end by AES-256-GCM, or the course's, which is for teaching.",
            ),
            click.option(
                "--device",
                default="/dev/cryptodev0",
                show_default=True,
                help="Where ciphers are computed.",
            ),
            click.option(
                "--secret-file",
                type=EXISTING,
                help="What the members share; else it is asked for. Mode 0600.",
            ),
            click.option(
                "--room",
                default="lobby",
                show_default=True,
                help="Its name goes into the keys: another room has other keys.",
            ),
            click.option("--name", help="How the others see you.  [default: your user name]"),
            click.option("--json", "as_json", is_flag=True, help="One object for each event."),
            click.option("--key-file", type=EXISTING, help="classic: 16 raw bytes, else zeros."),
            click.option("--iv-file", type=EXISTING, help="classic: 16 raw bytes, else zeros."),
            click.option("--plain", is_flag=True, help="classic: without encryption."),
        )
    ):
        function = option(function)
    return function


class Talker:
    """What both commands were given, as the objects that they need; UsageError, Failure.

    ``talks`` if somebody types here: a server that only relays has neither screen nor key.
    """

    cipher: "ClassicCipher | None" = None
    sealer: "Sealer | None" = None
    screen: "Screen"

    def __init__(self, given: dict[str, Any], talks: bool) -> None:
        self._given = given
        self._talks = talks
        self._classic = given["wire"] == "classic"
        self._check()
        self.name = _clean(given["name"] or _user_name())
        self._keys = self._classic_keys() if self._classic else (self._room_key(), b"")

    def _check(self) -> None:
        given = self._given
        for_classic = given["key_file"] or given["iv_file"] or given["plain"]
        if for_classic and not self._classic:
            raise click.UsageError("--key-file, --iv-file and --plain are for --wire classic")
        if given["plain"] and (given["key_file"] or given["iv_file"]):
            raise click.UsageError("--plain takes no key and no IV")
        if given["secret_file"] and (self._classic or not self._talks):
            who = "the classic wire" if self._classic else "a server that relays"
            raise click.UsageError(f"{who} takes no secret")

    def _classic_keys(self) -> tuple[bytes, bytes]:
        from cuse_crypto_chat.classic import IV_SIZE, KEY_SIZE
        from cuse_crypto_chat.secret import key_bytes

        return (
            key_bytes(self._given["key_file"], KEY_SIZE, "--key-file"),
            key_bytes(self._given["iv_file"], IV_SIZE, "--iv-file"),
        )

    def _room_key(self) -> bytes:
        from cuse_crypto_chat.secret import room_key, secret

        if not self._talks:
            return b""
        with secret(self._given["secret_file"]) as shared:
            return room_key(shared, self._given["room"])

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """With a screen and a device that does what is asked of it. Failure."""
        from cuse_crypto_chat.cipher import Crypto
        from cuse_crypto_chat.classic_cipher import ClassicCipher
        from cuse_crypto_chat.sealing import Sealer

        crypto = Crypto(self._given["device"], self._tell)
        try:
            if self._classic:
                self.cipher = ClassicCipher(None if self._given["plain"] else crypto, *self._keys)
                await self.cipher.check()
            elif self._talks:
                self.sealer = Sealer(crypto, self._keys[0])
                await self.sealer.check()
            if self._talks:
                self.screen = self._make_screen()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(crypto.watch)
                yield
                nursery.cancel_scope.cancel()
        finally:
            crypto.close()

    def _make_screen(self) -> "Screen":
        from cuse_crypto_chat.pipe import Pipe

        if self._given["as_json"] or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return Pipe(self._given["as_json"])
        from cuse_crypto_chat.terminal import Terminal

        return Terminal()

    async def announce(self, text: str) -> None:
        """On standard output, or where that is taken by a talk, on its screen."""
        if self._talks and self.screen.interactive:
            await self._tell(text)
        else:
            announce(text)

    async def _tell(self, text: str) -> None:
        from cuse_crypto_chat.events import Notice

        if self._talks:
            await self.screen.show(Notice(text, time.time()))
        else:
            announce(text)


def _clean(name: str) -> str:
    from cuse_crypto_chat.text import clean_name

    return clean_name(name)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "nobody"
