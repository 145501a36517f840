"""``cuse-crypto chat``: serve, connect, and make a secret. The chat is imported when it is used."""

import contextlib
import functools
import getpass
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from cuse_crypto.cli.options import FunctionT, announce
from cuse_crypto.cli.signals import until_signalled

if TYPE_CHECKING:
    from cuse_crypto_chat.classic_cipher import ClassicCipher
    from cuse_crypto_chat.screen import Screen
    from cuse_crypto_chat.sealing import Sealer
    from cuse_crypto_chat.serve import Settings

PORT = 35001
EXISTING = click.Path(path_type=Path)


def _both(function: FunctionT) -> FunctionT:
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


@click.group("chat")
def command() -> None:
    """Talk over TCP, encrypted by a crypto device.

    \b
    cuse-crypto chat secret room.key               # give it to all members, secretly
    cuse-crypto chat serve                         # the server needs neither it nor a device
    cuse-crypto chat connect HOST --secret-file room.key
    """


@command.command()
@click.argument("file", type=EXISTING)
def secret(file: Path) -> None:
    """Make FILE, with a secret that cannot be guessed."""
    from cuse_crypto_chat.secret import make_secret_file

    make_secret_file(file)
    announce(f"{file}: give it to the members, by a way that nobody else sees")


@command.command()
@click.option("--host", default="::", show_default=True, help=":: is IPv6 and IPv4.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True)
@click.option(
    "--max-clients", type=click.IntRange(1, 4096), default=256, show_default=True, help="At once."
)
@click.option(
    "--queue",
    type=click.IntRange(128, 1 << 20),
    default=4096,
    show_default=True,
    help="KiB that may wait for a client that does not read; then it is dropped.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, 1 << 20),
    default=1024,
    show_default=True,
    help="KiB per second that one client may send.",
)
@click.option("--one-to-one", is_flag=True, help="Talk with one client at a time, from here.")
@_both
def serve(
    host: str, port: int, max_clients: int, queue: int, rate: int, one_to_one: bool, **given: Any
) -> None:
    """Serve a room, until Ctrl-C. On the default wire it relays, and can read nothing."""
    from cuse_crypto_chat import serve as servers

    settings = servers.Settings(host, port, max_clients, queue << 10, rate << 10)
    talker = _Talker(given, one_to_one)
    trio.run(_serve, settings, talker, one_to_one)


async def _serve(settings: "Settings", talker: "_Talker", one_to_one: bool) -> None:
    from cuse_crypto_chat import serve as servers

    async with until_signalled() as ended, talker.prepared():
        if not one_to_one:
            await servers.serve_room(settings, talker.cipher, announce, ended)
        elif talker.cipher:
            await servers.talk_classic(settings, talker.cipher, talker.screen, announce, ended)
        else:
            assert talker.sealer
            await servers.talk_sealed(
                settings, talker.sealer, talker.name, talker.screen, announce, ended
            )


@command.command()
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535), default=PORT)
@click.option(
    "--retry",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds for which a lost server is looked for.",
)
@click.option("--stay", is_flag=True, help="After the end of input, until Ctrl-C.")
@_both
def connect(host: str, port: int, retry: float, stay: bool, **given: Any) -> None:
    """Take part in the room of a server: in a terminal, or with lines from a pipe."""
    trio.run(_connect, host, port, retry, stay, _Talker(given, True))


async def _connect(host: str, port: int, retry: float, stay: bool, talker: "_Talker") -> None:
    from cuse_crypto_chat.classic_talk import ClassicClient
    from cuse_crypto_chat.client import Client
    from cuse_crypto_chat.dial import Patience, dial

    where = f"{host} port {port}"
    reach = functools.partial(dial, host, port)
    async with until_signalled() as ended, talker.prepared():
        if talker.cipher:
            classic = ClassicClient(
                reach, where, talker.cipher, talker.screen, Patience(retry), stay
            )
            await classic.run(ended)
        else:
            assert talker.sealer
            client = Client(
                reach, where, talker.sealer, talker.name, talker.screen, Patience(retry), stay
            )
            await client.run(ended)


class _Talker:
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
