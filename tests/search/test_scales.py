from evomerge.search.scales import doubtful_scales
from tests.search.records import answers, record


def found(base, x, y):
    models = ({"search": {"a": answers(right, wrong=40 - right), "b": answers(20, wrong=20)}} for right in (base, x, y))
    return doubtful_scales(record(*models))


def test_a_task_in_which_experts_are_like_the_base_is_named():
    lines = found(base=10, x=30, y=10)  # b is the same for all three
    assert [line.partition(":")[0] for line in lines] == ["b"]
    assert "on 40 items no expert is clearly better than the base (+0 [" in lines[0]
    assert "'+objectives={b: {weight: 0}}'" in lines[0]


def test_a_hair_is_not_clear():
    assert len(found(base=10, x=11, y=10)) == 2
    assert len(found(base=10, x=9, y=8)) == 2
