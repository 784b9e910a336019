"""The program of the helper process that `mathematics.py` starts: compares answers by math-verify, one a line.

Reads lines [gold, answer] as JSON from its standard input and answers true or false; the first line that it writes
says that it is ready. Imports nothing of evomerge.
"""

import json
import os
import resource
import sys
from functools import lru_cache
from typing import Any

from math_verify import parse, verify


@lru_cache(maxsize=65536)
def parse_gold(text: str) -> list[Any]:
    """Return what math-verify finds in the text of the right answer."""
    return list(parse(text))


def equal(gold: str, answer: str) -> bool:
    """Say whether two texts hold the same answer; one that breaks math-verify does not."""
    try:
        return bool(verify(gold=parse_gold(gold), target=parse(answer)))
    except Exception:
        return False


def main() -> None:
    """Serve until the standard input ends."""
    limit = int(sys.argv[1]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # Replies go out by a copy of standard output, so that nothing that a library prints can pass for one.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    replies.write(b"true\n")
    for line in sys.stdin.buffer:
        gold, answer = json.loads(line)
        replies.write(b"true\n" if equal(gold, answer) else b"false\n")


if __name__ == "__main__":
    main()
