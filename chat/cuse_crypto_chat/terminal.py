"""A talk in a terminal: what is said above, and below it a line that one types undisturbed.

prompt_toolkit runs in a thread of its own, with asyncio, which it needs; the talk is trio's. What
crosses is one bounded queue each way.
"""

import asyncio
import contextlib
from collections import deque

import trio
from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    BufferControl,
    FormattedTextControl,
    HSplit,
    Layout,
    VSplit,
    Window,
)
from prompt_toolkit.styles import Style

from cuse_crypto_chat.events import Event, Notice
from cuse_crypto_chat.screen import in_words
from cuse_crypto_chat.scrollback import MAX_LINES, MAX_ROWS, Scrollback, line_of
from cuse_crypto_chat.text import printable

STYLE = Style.from_dict(
    {
        "clock": "ansibrightblack",
        "own": "ansibrightblack",
        "notice": "ansibrightblack italic",
        "alarm": "ansired bold",
        "bar": "reverse",
        "unread": "reverse bold",
        "prompt": "bold",
    }
)
BAR_AND_PROMPT = 2
"""Rows."""
MAX_TYPED = 1024
"""Lines that wait to be taken."""
RESTORING = 2.0
"""Seconds for the terminal to be as it was."""
REDRAW = 0.02
"""Seconds between two drawings: many messages are drawn at once."""


class Terminal:
    """The whole screen, until the end of the talk; then the terminal is as it was."""

    interactive = True

    def __init__(self) -> None:
        self._scrollback = Scrollback()
        self._came: deque[Event] = deque(maxlen=MAX_LINES)
        self._last: Event | None = None
        self._status = ""
        self._put, self._typed = trio.open_memory_channel[str](MAX_TYPED)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = False
        self._input = Buffer(accept_handler=self._accept, multiline=False)
        self._app = self._make_app()

    # In trio's thread

    async def run(self, lines: "trio.MemorySendChannel[str]") -> None:
        """Read lines until Ctrl-C or Ctrl-D, or until it is cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        drawn = trio.Event()
        async with lines, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, lines)
            try:
                await trio.to_thread.run_sync(self._draw, drawn, abandon_on_cancel=True)
            finally:
                self._end()
                with trio.move_on_after(RESTORING, shield=True):
                    await drawn.wait()
                self._leave_a_line()
            nursery.cancel_scope.cancel()

    async def _pass_on(self, lines: "trio.MemorySendChannel[str]") -> None:
        async for line in self._typed:
            await lines.send(line)

    async def show(self, event: Event) -> None:
        """Never waits: what a terminal does not take in time is scrolled away."""
        self._last = event
        self._came.append(event)
        self._app.invalidate()
        await trio.lowlevel.checkpoint()

    def status(self, text: str) -> None:
        """For the bar."""
        if text != self._status:
            self._status = text
            self._app.invalidate()

    def _end(self) -> None:
        self._over = True
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._exit)

    def _leave_a_line(self) -> None:
        """What is on the screen now goes; the reason for it stays."""
        if isinstance(self._last, Notice):
            print(in_words(self._last), flush=True)

    # In prompt_toolkit's thread

    def _draw(self, drawn: trio.Event) -> None:
        try:
            asyncio.run(self._main())
        finally:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(drawn.set)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Signals belong to the main thread, which is trio's.
        await self._app.run_async(
            pre_run=self._exit_if_over, handle_sigint=False, set_exception_handler=False
        )

    def _exit_if_over(self) -> None:
        if self._over:
            self._exit()

    def _exit(self) -> None:
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def _make_app(self) -> Application[None]:
        body = Window(FormattedTextControl(self._body), always_hide_cursor=True)
        bar = Window(FormattedTextControl(self._bar), height=1, style="class:bar")
        prompt = Window(FormattedTextControl("> "), width=2, style="class:prompt")
        typed = Window(BufferControl(self._input), height=1)
        app: Application[None] = Application(
            layout=Layout(HSplit([body, bar, VSplit([prompt, typed])]), focused_element=typed),
            key_bindings=self._keys(),
            style=STYLE,
            full_screen=True,
            min_redraw_interval=REDRAW,
        )
        app.before_render += self._take_in
        return app

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        empty = Condition(lambda: not self._input.text)

        @keys.add("c-c")
        @keys.add("c-d", filter=empty)
        def _leave(event: KeyPressEvent) -> None:
            self._exit()

        @keys.add("pageup")
        def _up(event: KeyPressEvent) -> None:
            self._scrollback.scroll(self._height() - 1, self._height())

        @keys.add("pagedown")
        def _down(event: KeyPressEvent) -> None:
            self._scrollback.scroll(1 - self._height(), self._height())

        return keys

    def _accept(self, buffer: Buffer) -> bool:
        for line in buffer.text.splitlines():
            self._token.run_sync_soon(self._took, line)
        self._scrollback.scroll(-MAX_LINES * MAX_ROWS, self._height())
        return False

    def _took(self, line: str) -> None:
        with contextlib.suppress(trio.WouldBlock):
            self._put.send_nowait(line)

    def _take_in(self, app: "Application[None]") -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._scrollback.add(line_of(self._came.popleft()))

    def _height(self) -> int:
        return max(1, self._app.output.get_size().rows - BAR_AND_PROMPT)

    def _body(self) -> StyleAndTextTuples:
        rows = self._scrollback.view(self._app.output.get_size().columns, self._height())
        text: StyleAndTextTuples = []
        for row in rows:
            text += [*row, ("", "\n")]
        return text[:-1]

    def _bar(self) -> StyleAndTextTuples:
        text: StyleAndTextTuples = [("", f" {printable(self._status)}")]
        if self._scrollback.unread:
            text.append(("class:unread", f"  {self._scrollback.unread} unread (PageDown)"))
        return text
