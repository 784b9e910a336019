"""The command line of evomerge, one small file a command.

Each command's file has `add(commands)`, which declares its words, and `run(options)`, which does the work and returns
the exit status. `entry.py` puts them together. Nothing here knows about merging or scoring: a command imports the
rooms when it runs, so that `evomerge zoo` is quick.
"""

from evomerge.cli.entry import main

__all__ = ["main"]
