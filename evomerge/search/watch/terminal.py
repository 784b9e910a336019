"""What a person sees while a search runs: a live panel on a terminal, plain lines where there is none.

Above the panel only what is notable stays on the screen; `log.txt` has everything. This file knows nothing about how a
search goes on.
"""

import os
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live

from evomerge.search.record import Record
from evomerge.search.watch.activity import Activity
from evomerge.search.watch.follow import Follower
from evomerge.search.watch.news import News
from evomerge.search.watch.panel import panel


class Terminal:
    """The observer that a person watches.

    Args:
        follower: where the figures come from.
        doing: what the workers do at this moment.
        out: where to print; the panel needs a terminal that can move its cursor.
    """

    def __init__(self, follower: Follower, doing: Callable[[], Sequence[Activity]], out: TextIO) -> None:
        self._follower, self._doing, self._out, self._news = follower, doing, out, News()
        self._live: Live | None = None
        if out.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
            self._console = Console(file=out, highlight=False, markup=False)
            self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True)
            self._live.start()

    def __call__(self, record: Record) -> None:
        """Print what is new; the panel draws itself."""
        for line in self._news(record, self._follower(record)):
            if self._live is None:
                self.say(line.text + line.progress)
            elif line.notable:
                self.say(line.text)

    def say(self, line: str) -> None:
        """Print a line, above the panel if there is one."""
        if self._live is None:
            print(line, file=self._out, flush=True)
        else:
            self._console.print(line, soft_wrap=True)

    def close(self, record: Record) -> None:
        """Take the panel away."""
        if self._live is not None:
            self._live.stop()

    def _draw(self) -> RenderableType:
        width, height = self._console.size
        follower = self._follower
        return panel(
            *(follower.outline, follower.snapshot, self._doing()),
            now=follower.clock(),
            started=follower.started,
            width=width,
            height=height,
        )
