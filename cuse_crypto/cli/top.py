"""``cuse-crypto top``: a device as it works, full screen."""

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import click
import trio

from cuse_crypto.cli.options import DEFAULT_NAME, announce
from cuse_crypto.errors import Failure

if TYPE_CHECKING:
    from cuse_crypto.cli.top_screen import View
    from cuse_crypto.status.client import Tree
    from cuse_crypto.status.history import History


@click.command("top")
@click.argument("name", default=DEFAULT_NAME)
@click.option(
    "--interval",
    type=click.FloatRange(0.25, 10),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object in a line for each look.")
def command(name: str, interval: float, as_json: bool) -> None:
    """Show what the device NAME does: rates and latencies, by ioctl and by session.

    Keys: q and Ctrl-C end it, Tab changes between ioctls and sessions, < and > choose the column
    that it is sorted by, r turns the order round, + and - change the interval.
    """
    from cuse_crypto.status.client import find

    tree = find(name)
    if as_json:
        _lines(tree, interval)
    elif not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Failure("top is for a terminal; use `cuse-crypto top --json` or `status`")
    else:
        trio.run(_screen, tree, interval)


def _lines(tree: "Tree", interval: float) -> None:
    from cuse_crypto.status.history import History

    history = History()
    try:
        while True:
            _look(tree, history)
            ioctls = [row.cells for row in history.ioctls.values()]
            sessions = [row.cells for row in history.sessions.values()]
            announce(json.dumps({"time": time.time(), "ioctls": ioctls, "sessions": sessions}))
            time.sleep(interval)
    except KeyboardInterrupt:
        pass


def _look(tree: "Tree", history: "History") -> None:
    history.add(tree.counters(), tree.sessions(), time.monotonic())


async def _screen(tree: "Tree", interval: float) -> None:
    import termios
    import tty

    from rich.console import Console
    from rich.live import Live

    from cuse_crypto.cli.top_screen import BARS, PLAIN_BARS, View
    from cuse_crypto.status.history import History

    can = (sys.stdout.encoding or "").lower().startswith("utf")
    view, history = View(interval=interval, bars=BARS if can else PLAIN_BARS), History()
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            await _run(tree, history, view, live)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


async def _run(tree: "Tree", history: "History", view: "View", live: object) -> None:
    from cuse_crypto.cli.top_screen import draw

    info = tree.info()

    def show() -> None:
        size = live.console.size  # type: ignore[attr-defined]
        drawn = draw(history, info, view, size.width, size.height)
        live.update(drawn, refresh=True)  # type: ignore[attr-defined]

    async with trio.open_nursery() as nursery:

        async def look() -> None:
            while True:
                # A tree whose process is stopped does not answer; keys are heeded all the same.
                await trio.to_thread.run_sync(_look, tree, history, abandon_on_cancel=True)
                show()
                await trio.sleep(view.interval)

        async def heed_signals() -> None:
            with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGINT, signal.SIGTERM) as all_:
                async for number in all_:
                    if number != signal.SIGWINCH:
                        break
                    show()
            nursery.cancel_scope.cancel()

        nursery.start_soon(look)
        nursery.start_soon(heed_signals)
        while True:
            await trio.lowlevel.wait_readable(0)
            pressed = os.read(0, 64).decode("utf-8", "replace")
            # Escape sequences come whole.
            for key in [pressed] if pressed.startswith("\x1b") else pressed:
                if key in ("q", "\x03", "\x04"):
                    nursery.cancel_scope.cancel()
                view.press(key)
            if not pressed:
                nursery.cancel_scope.cancel()
            show()
