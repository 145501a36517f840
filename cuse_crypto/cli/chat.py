"""``cuse-crypto chat``: serve, connect, and make a secret. The chat is imported when it is used."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from cuse_crypto.cli.options import announce
from cuse_crypto.cli.signals import until_signalled
from cuse_crypto.cli.talker import Talker, talker_options

if TYPE_CHECKING:
    from cuse_crypto_chat.serve import Settings

PORT = 35001


@click.group("chat")
def command() -> None:
    """Talk over TCP, encrypted by a crypto device.

    \b
    cuse-crypto chat secret room.key               # give it to all members, secretly
    cuse-crypto chat serve                         # the server needs neither it nor a device
    cuse-crypto chat connect HOST --secret-file room.key
    """


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
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
@talker_options
def serve(
    host: str, port: int, max_clients: int, queue: int, rate: int, one_to_one: bool, **given: Any
) -> None:
    """Serve a room, until Ctrl-C. On the default wire it relays, and can read nothing."""
    from cuse_crypto_chat import serve as servers

    settings = servers.Settings(host, port, max_clients, queue << 10, rate << 10)
    talker = Talker(given, one_to_one)
    trio.run(_serve, settings, talker, one_to_one)


async def _serve(settings: "Settings", talker: Talker, one_to_one: bool) -> None:
    from cuse_crypto_chat import serve as servers

    async with until_signalled() as ended, talker.prepared():
        if not one_to_one:
            await servers.serve_room(settings, talker.cipher, talker.announce, ended)
        elif talker.cipher:
            await servers.talk_classic(
                settings, talker.cipher, talker.screen, talker.announce, ended
            )
        else:
            assert talker.sealer
            await servers.talk_sealed(
                settings, talker.sealer, talker.name, talker.screen, talker.announce, ended
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
@talker_options
def connect(host: str, port: int, retry: float, stay: bool, **given: Any) -> None:
    """Take part in the room of a server: in a terminal, or with lines from a pipe."""
    trio.run(_connect, host, port, retry, stay, Talker(given, True))


async def _connect(host: str, port: int, retry: float, stay: bool, talker: Talker) -> None:
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
