from evomerge.evaluation.code import program, run_tests, score_verdict

DOC = {"test_list": ["assert f(1) == 2", "assert f(2) == 3", "assert f(3) == 4", "assert f(4) == 0"]}


def test_program_is_the_answer_and_three_asserts():
    assert program("def f(x): return x + 1", DOC) == (
        "def f(x): return x + 1\nassert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4"
    )


def test_verdicts_and_scores():
    answers = [["def f(x): return x + 1"], ["def f(x): return 2"], ["f = ("]]
    verdicts = run_tests(answers, [DOC] * 3)
    assert verdicts == [["passed"], ["failed: AssertionError"], ["failed: SyntaxError"]]
    assert [score_verdict(DOC, row)["pass_at_1"] for row in verdicts] == [1.0, 0.0, 0.0]


def test_no_answers():
    assert run_tests([], []) == []
