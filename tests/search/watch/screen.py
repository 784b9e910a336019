"""A process on a pseudo-terminal, and the screen that a terminal would show of what it writes."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

import pyte


class Screen:
    """Runs a function or a command on a terminal of some size; `text` is what is on it, `raw` all that was written.

    A function runs in a fork of this process, which has all libraries loaded.
    """

    def __init__(self, what, *, columns=100, lines=30, env, cwd=None):
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.raw, self.status = b"", None
        self.pid, self._ours = pty.fork()
        if self.pid == 0:
            run_child(what, (lines, columns), env, cwd)
        self.resize(columns, lines)

    def resize(self, columns, lines):
        """Give the terminal another size; the kernel sends the process a SIGWINCH."""
        set_size(self._ours, lines, columns)
        self.screen.resize(lines, columns)

    def read(self, seconds):
        """Read for some time; False when the process has closed the terminal."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._ours], [], [], left)[0]:
                try:
                    data = os.read(self._ours, 65536)
                except OSError:  # the other side is closed
                    return False
                self.raw += data
                self._stream.feed(data)
        return True

    def until(self, condition, timeout=60):
        """Read until the screen's text fulfils a condition."""
        end = time.monotonic() + timeout
        while not condition(self.text):
            alive = self.read(0.1)
            assert time.monotonic() < end, f"not in time; the screen is:\n{self.text}"
            assert alive or condition(self.text), f"the process ended; the screen is:\n{self.text}"
        return self.text

    def finish(self, timeout=60):
        """Read to the end; return the exit status."""
        end = time.monotonic() + timeout
        while self.read(0.2):
            assert time.monotonic() < end, self.text
        return self.wait()

    def wait(self):
        """Return the exit status, as a shell has it."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def kill(self):
        """End the process if it has not ended."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def history(self):
        """What has scrolled off above, and the screen."""
        above = ["".join(line[x].data for x in range(self.screen.columns)).rstrip() for line in self.screen.history.top]
        return "\n".join([*above, self.text])

    def type(self, text):
        """Press keys."""
        os.write(self._ours, text.encode())


def set_size(terminal, lines, columns):
    """Tell a terminal's size."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def run_child(what, size, env, cwd):
    """In the forked process: run a function with the terminal as its standard streams, or become a command."""
    status = 1
    try:
        set_size(0, *size)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd or os.getcwd())
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background, without it
        if not callable(what):
            os.execvp(what[0], what)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        what()
        sys.stdout.flush()
        status = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(status)
