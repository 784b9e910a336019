"""How a command ends: its status and the one line that says why."""

import signal

import pytest

from evomerge.cli import entry, main
from evomerge.cli.termination import Terminated, raising_terminated
from evomerge.cli.words import print_next, weights
from evomerge.errors import UsageError, WorkError


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UsageError("a wrong\nword"), 2, "evomerge: a wrong word\n"),
        (WorkError("the work"), 1, "evomerge: the work\n"),
        (OSError(28, "No space left on device", "/here"), 1, "evomerge: /here: No space left on device\n"),
        (KeyboardInterrupt(), 130, "interrupted; what was recorded is safe"),
        (Terminated("x"), 143, "ended by SIGTERM; what was recorded is safe"),
    ],
)
def test_statuses(monkeypatch, capsys, error, status, words):
    def fail(options):
        raise error

    monkeypatch.setattr(entry.zoo, "run", fail)
    assert main(["zoo"]) == status
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_sigterm_is_an_exception_while_the_context_lasts_and_not_after():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), raising_terminated():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_weights():
    assert weights(["a=1", "b=0.5"]) == {"a": 1.0, "b": 0.5}
    for wrong in ("a", "a=", "=1", "a=x", "a=-1", "a=inf", "a=nan"):
        with pytest.raises(UsageError, match="--prefer"):
            weights([wrong])


def test_next_steps_can_be_pasted(capsys):
    print_next((["evomerge", "front", "my run"], "the trade-offs"))
    assert capsys.readouterr().out == "next: evomerge front 'my run'   (the trade-offs)\n"
