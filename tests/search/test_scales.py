from evomerge.search.scales import doubtful_scales
from tests.search.records import answers, record


def found(base, x, y):
    models = ({"search": {"a": answers(right, wrong=40 - right), "b": answers(20, wrong=20)}} for right in (base, x, y))
    return doubtful_scales(record(*models))


def test_a_task_in_which_experts_are_like_the_base_is_named():
    [scale] = found(base=10, x=30, y=10)  # b is the same for all three
    assert (scale.task, scale.expert, scale.items, scale.gain.mean) == ("b", "x", 40, 0.0)
    assert "b: the best expert (x) is not clearly better than the base on 40 items (by 0, 95 % interval" in str(scale)


def test_a_hair_is_not_clear():
    assert [scale.task for scale in found(base=10, x=11, y=10)] == ["a", "b"]
    assert [scale.task for scale in found(base=10, x=9, y=8)] == ["a", "b"]
