"""What a person or a script sees of a running search: a live panel or plain lines, `status.json` and `log.txt`.

`follow.py` turns the record into a snapshot of plain figures, with the time left; the others show it. Nothing here
has a say in how a search goes on.
"""

from evomerge.search.watch.activity import Activity, Workbench
from evomerge.search.watch.follow import Follower, Outline, Snapshot
from evomerge.search.watch.log import LogFile
from evomerge.search.watch.status import STATUS_VERSION, StatusFile
from evomerge.search.watch.terminal import Terminal

__all__ = [
    "STATUS_VERSION",
    "Activity",
    "Follower",
    "LogFile",
    "Outline",
    "Snapshot",
    "StatusFile",
    "Terminal",
    "Workbench",
]
