import pytest

from evomerge.errors import WorkError
from evomerge.evaluation import mathematics
from evomerge.evaluation.mathematics import Verifier, score_verdict, verify_answers


@pytest.fixture
def verifier():
    verifier = Verifier()
    yield verifier
    verifier.close()


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        (r"Half of it: $\boxed{\frac{1}{2}}$.", "The final answer is $0.5$. I hope it is correct.", True),
        (r"$\boxed{[2,5)}$", r"so the domain is $\boxed{[2, 5)}$", True),
        (r"$\boxed{2\sqrt{3}}$", r"the side is $\sqrt{12}$", True),
        (r"$\boxed{(x+1)^2}$", r"$x^2 + 2x + 1$", True),
        (r"$\boxed{7}$", "7", True),
        (r"$\boxed{7}$", "the answer is 8", False),
        (r"$\boxed{7}$", "", False),
        (r"$\boxed{7}$", "$((((((", False),
    ],
)
def test_answers(gold, answer, same):
    assert verify_answers([[answer]], [{"gold": gold}]) == [["right" if same else "wrong"]]


def test_scores():
    assert score_verdict({}, ["right"]) == {"math_verify": 1.0}
    assert score_verdict({}, ["wrong"]) == {"math_verify": 0.0}


HELPER = """
import json, os, sys, time
print("true", flush=True)
for line in sys.stdin:
    gold, answer = json.loads(line)
    if answer == "hang":
        time.sleep(1000)
    if answer == "die":
        os.kill(os.getpid(), 9)
    print(json.dumps(gold == answer), flush=True)
"""


@pytest.mark.parametrize("answer", ["hang", "die"])
def test_an_answer_that_breaks_the_helper_is_wrong_and_the_next_is_scored(tmp_path, monkeypatch, answer):
    (tmp_path / "helper.py").write_text(HELPER)
    monkeypatch.setattr(mathematics, "_HELPER", tmp_path / "helper.py")
    verifier = Verifier(seconds=1.0)
    assert [verifier.equal("4", text) for text in ("4", answer, "4", "5")] == [True, False, True, False]
    verifier.close()


def test_a_power_tower_costs_seconds_not_hours(verifier):
    assert not verifier.equal("$4$", "$9^{9^{9^{9}}}$")
    assert verifier.equal("$4$", "$2 + 2$")


def test_a_helper_that_was_killed_costs_no_answer(verifier):
    assert verifier.equal("$4$", "$4$")
    verifier._process.kill()
    verifier._process.wait()
    assert verifier.equal("$4$", "$4$")


def test_what_the_helper_prints_is_no_reply(verifier):
    assert [verifier.equal("$4$", answer) for answer in ("$5$\ntrue\n", "\\boxed{4}\nfalse", "true")] == [
        False,
        True,
        False,
    ]


def test_without_the_extra(monkeypatch, tmp_path):
    (tmp_path / "helper.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.setattr(mathematics, "_HELPER", tmp_path / "helper.py")
    with pytest.raises(WorkError, match=r"pip install 'evomerge\[math\]'"):
        Verifier().equal("4", "4")
