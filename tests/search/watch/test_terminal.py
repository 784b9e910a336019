"""The terminal as a person sees it: a real process on a real pseudo-terminal, read through a terminal emulator."""

import io
import os
import re
import signal
import sys

import pytest

from evomerge.cli.termination import raising_terminated
from evomerge.search.watch.panel import FRAME, WIDEST
from tests.search.watch.demo import watched
from tests.search.watch.screen import Screen

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


@pytest.fixture
def start(tmp_path):
    screens = []

    def start(seconds, *fail, columns=100, lines=30, **env):
        def child():
            with raising_terminated():
                watched(tmp_path / str(len(screens)), seconds=seconds, fail=fail, out=sys.stdout)
            print("the end")

        known = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        screens.append(Screen(child, columns=columns, lines=lines, env={**known, "TERM": "xterm-256color", **env}))
        return screens[-1]

    yield start
    for screen in screens:
        screen.kill()


def test_a_search_from_its_panel_to_its_end(start):
    screen = start(0.1, 9)
    text = screen.until(lambda text: "search split" in text and "* candidate" in text and "failures: 1" in text)
    for words in ("demo", "cmaes", "searching", "models", "base", "average", "front:", "(1 candidate)", "one: "):
        assert words in text, text
    screen.until(lambda text: re.search(r"\d:\d\d left \(\d:\d\d to \d:\d\d\)", text))
    assert screen.finish() == 0
    assert "the end" in screen.text
    assert "front:" not in screen.text, "the panel is gone"
    assert "best so far" in screen.history
    assert "failed (candidate): made to fail" in screen.history
    assert screen.raw.count(HIDE) == screen.raw.count(SHOW) == 1
    assert screen.screen.cursor.hidden is False


def test_it_stays_whole_when_the_window_changes(start):
    screen = start(0.15, columns=100)
    screen.until(lambda text: "* candidate" in text)
    for columns, lines in ((45, 30), (80, 20), (120, 40)):
        screen.resize(columns, lines)
        screen.until(lambda text, columns=columns: is_whole(text, columns), timeout=20)
    assert screen.finish() == 0


def is_whole(text, columns):
    """The panel stands once at the end of the screen, in the width of the terminal."""
    last = [line for line in text.splitlines() if line][-8:]
    frame = len(last[-1]) if last[-1].startswith("╰") else 0
    return sum("* candidate" in line for line in last) == 1 and frame == (
        min(columns - 2, WIDEST) if columns >= FRAME else 0
    )


def test_no_color(start):
    colour = re.compile(rb"\x1b\[[0-9;]*(?:3[0-7]|38|9[0-7]|4[0-7]|48)[0-9;]*m")
    plain, coloured = start(0.03, NO_COLOR="1"), start(0.03)
    assert plain.finish() == coloured.finish() == 0
    assert not colour.search(plain.raw)
    assert colour.search(coloured.raw)


@pytest.mark.parametrize(("number", "state"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "KeyboardInterrupt")])
def test_a_stopped_search_gives_the_cursor_back(start, tmp_path, number, state):
    screen = start(0.2)
    screen.until(lambda text: "* candidate" in text)
    os.kill(screen.pid, number)
    screen.finish()
    assert screen.screen.cursor.hidden is False
    assert state in (tmp_path / "0" / "status.json").read_text()


def test_a_dumb_terminal_gets_plain_lines(start):
    screen = start(0.0, TERM="dumb")
    assert screen.finish() == 0
    assert b"\x1b" not in screen.raw
    assert re.search(r"candidate \d+  search ", screen.history)


def test_a_log_gets_a_plain_line_a_result_and_no_control_characters(tmp_path):
    out = io.StringIO()
    record = watched(tmp_path, fail={9}, out=out)
    text = out.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    assert len(text.splitlines()) == sum(len(trial.scores) for trial in record.trials.values()) + 1
    planned = len(record.trials)
    left = rf"candidate \d+  search .* mean normalised .* \d+/{planned}, \d:\d\d left \(\d:\d\d to \d:\d\d\)"
    assert re.search(left, text)


def test_a_finished_search_started_again_says_what_it_has(tmp_path):
    count = len(watched(tmp_path, out=io.StringIO()).trials)
    out = io.StringIO()
    watched(tmp_path, out=out)
    assert out.getvalue() == f"resumed: {count} models were scored before\n"
