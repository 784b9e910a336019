"""How a command ends: its status and the one line that says why."""

import signal

import pytest

from evomerge.cli import entry, main
from evomerge.cli.search import sweep_words
from evomerge.cli.termination import Terminated, raising_terminated
from evomerge.cli.words import print_next, weights
from evomerge.errors import UsageError, WorkError
from evomerge.search.sweep import finished_sweeps
from tests.search.runs import here


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UsageError("a wrong\nword"), 2, "evomerge: a wrong word\n"),
        (WorkError("the work"), 1, "evomerge: the work\n"),
        (OSError(28, "No space left on device", "/here"), 1, "evomerge: /here: No space left on device\n"),
        (KeyboardInterrupt(), 130, "evomerge: interrupted\n"),
        (Terminated([signal.SIGTERM]), 143, "evomerge: ended by SIGTERM\n"),
        (Terminated([signal.SIGUSR2, signal.SIGTERM]), 140, "evomerge: ended by SIGUSR2\n"),
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["exprot"], "unknown command 'exprot'; did you mean 'export'?"),
        (["--helpp"], "unknown option '--helpp'; did you mean '--help'?"),
        (["zoo", "math", "code"], "zoo: unknown word 'code'; that is one word too many (see evomerge zoo --help)"),
        (["plan", "--no-mesure"], "plan: unknown word '--no-mesure'; did you mean '--no-measure'?"),
        (["export", "a", "b", "--shardsize=1GB"], "did you mean '--shard-size'?"),
        (["search", "--multrun"], "search: unknown option '--multrun'; did you mean '--multirun'?"),
        (["search", "seed"], "'seed' is no override; write key=value"),
        (["search", "experimnt=quickstart"], "unknown configuration key 'experimnt'; did you mean 'experiment'?"),
        (["search", "items={serch: 4}"], "unknown configuration key 'items.serch'; did you mean 'items.search'?"),
        (["search", "items={search: 4"], "is a bracket or a quote missing?"),
        (["search", "tasks=[gsm8k,mbppp]"], "did you mean 'mbpp'?"),
        (["search", "~tasks.zoo_cod"], "~tasks.zoo_cod: there is no such key; did you mean 'tasks.zoo_code'?"),
        (["search", "seed=1,2"], "several values are a sweep, evomerge search -m ..."),
        (["search", "-m", "seed=[1"], "'[1' cannot be read; is a bracket or a quote missing?"),
        (["fetch", "seed=[1"], "'[1' cannot be read; is a bracket or a quote missing?"),
        (["search", "hydra/launcher=slurm"], "hydra/launcher=slurm: no such launcher here; "),
        (["search", "hydra/launcher=slurm"], "(Slurm: pip install 'evomerge[cluster]')"),
        (["search", "hydra.launcher.partitn=gpu"], "hydra.launcher.partitn: no such key; what else sbatch has"),
        (["search", "space.options={lambda: {low: 0.2}}"], "write '+space.options=...', with a plus"),
        (["search", "foo.bar=1"], "unknown configuration key 'foo'; known: baselines, budget, "),
    ],
)
def test_a_slip_of_the_pen_is_one_line_with_the_word_that_was_meant(words, says):
    done = here(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert says in done.stderr


def test_no_words_at_all_are_a_wish_for_help():
    done = here()
    assert done.returncode == 0
    assert "evomerge search experiment=quickstart" in done.stdout


def test_a_sweep_names_its_jobs_after_what_is_swept():
    words = ["~tasks.zoo_code", "+models.experts={math: a/b}", "optimizer=map", "optimizer=random,map", "seed=1"]
    keys = "models.experts,tasks.zoo_code"
    assert sweep_words(words) == [
        f"hydra.job.config.override_dirname.exclude_keys=[{keys}]",
        *("~tasks.zoo_code", "+models.experts={math: a/b}", "optimizer=random,map", "seed=1"),
    ]
    assert sweep_words(["seed=1"]) == ["seed=1"], "nothing is swept"


def test_a_sweep_that_ended_before_is_not_reported_again(tmp_path, capfd):
    finished_sweeps.append(tmp_path)
    assert here("search", "--cfg", "job").returncode == 0
    assert finished_sweeps == []


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
