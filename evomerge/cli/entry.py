"""From the words of a command line to the command that they mean.

Exit status 0 on success, 2 for a wrong request and 1 for failed work, each with one line on standard error. This file
knows the list of commands and nothing about what they do.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from evomerge import __version__
from evomerge.cli import (
    completion,
    doctor,
    evaluate,
    export,
    fetch,
    front,
    import_,
    merge,
    overlap,
    plan,
    report,
    runs,
    search,
    zoo,
)
from evomerge.cli.termination import Terminated
from evomerge.errors import SAFE, EvomergeError, UsageError, nearest

DESCRIPTION = "Find the best way to merge fine-tuned language models."
EPILOG = """A first search, on tiny models that ship with evomerge, and its model:

  evomerge search experiment=quickstart
  evomerge front runs/quickstart-map-seed0
  evomerge export runs/quickstart-map-seed0 my-model

`evomerge COMMAND --help` shows examples of each command.
"""

#: In the order of the help.
COMMANDS = (
    search,
    plan,
    fetch,
    evaluate,
    merge,
    front,
    runs,
    report,
    export,
    doctor,
    import_,
    overlap,
    zoo,
    completion,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (None: this program's own); returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except UsageError as error:
        return _refuse(str(error), 2)
    except EvomergeError as error:
        return _refuse(str(error), 1)
    except (KeyboardInterrupt, Terminated) as stop:
        what, status = ("interrupted", 130) if isinstance(stop, KeyboardInterrupt) else (str(stop), 128 + stop.came[0])
        _refuse(what + (f"; {SAFE}" if words[:1] == ["search"] else ""), status)
        if arguments is None:  # the libraries take seconds to end, and a second Ctrl-C would show their tracebacks
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(status)
        return status
    except BrokenPipeError:  # `evomerge front RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}", 1)


def _run(words: list[str]) -> int:
    """Find the command that is meant, and run it."""
    if words[:1] == ["search"]:  # Hydra reads its overrides itself
        return search.run(argparse.Namespace(overrides=words[1:]))
    parser, commands = build_parser()
    if not words:
        parser.print_help()
        return 0
    name = words[0]
    if name not in (*commands, *parser._option_string_actions):
        kind = "option" if name.startswith("-") else "command"
        raise UsageError(f"unknown {kind} {name!r}; {nearest(name, [*commands, '--help', '--version'])}")
    options, unknown = parser.parse_known_args(words)
    for word in unknown:
        known = commands[name]._option_string_actions if word.startswith("-") else ()
        hint = nearest(word.partition("=")[0], known) if known else "that is one word too many"
        raise UsageError(f"{name}: unknown word {word!r}; {hint} (see evomerge {name} --help)")
    run: Callable[[argparse.Namespace], int] = options.run_command
    return run(options)


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the whole command line and that of each command."""
    parser = _Parser(
        prog="evomerge",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"evomerge {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser, dict(commands.choices)


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line, like all others."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _refuse(message: str, status: int) -> int:
    print(f"evomerge: {' '.join(message.split())}", file=sys.stderr)
    return status
