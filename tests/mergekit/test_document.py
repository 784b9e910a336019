import pytest

from evomerge.errors import UsageError
from evomerge.mergekit.document import load_yaml, parse

PLAIN = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}


def with_(**changes):
    data = {**PLAIN, **changes}
    return {key: value for key, value in data.items() if value is not None}


def one_slice(*sources, **more):
    return with_(models=None, slices=[{"sources": list(sources), **more}])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected a mapping"),
        (with_(merge_method=None), "merge_method is missing"),
        (with_(merge_methd="x"), "unknown key 'merge_methd'; did you mean 'merge_method'"),
        (with_(models=None), "one of models, slices and modules"),
        (with_(slices=[{}]), "not models and slices"),
        (with_(models=[{"modl": "a"}]), r"models\[0\]: unknown key 'modl'; did you mean 'model'"),
        (with_(models=["a"]), r"models\[0\] must be a mapping"),
        (with_(models={"a": 1}), "models must be a list"),
        (with_(models=[{"model": "a"}, {"model": "a"}]), "listed twice"),
        (with_(models=[{"model": "a", "parameters": {"densty": 1}}]), "'densty'; did you mean 'density'"),
        (with_(models=[{"model": "a", "parameters": [1]}]), "must be a mapping"),
        (with_(parameters={"lamda": 1}), "'lamda'; did you mean 'lambda'"),
        (with_(dtype="int4"), "dtype 'int4' is none of"),
        (with_(tokenizer_source="base", tokenizer={}), "not both"),
        (with_(tokenizer={"sorce": "base"}), "did you mean 'source'"),
        (one_slice({"model": "a", "layer_range": [0, 2.5]}), "is no range"),
        (one_slice({"model": "a", "layer_range": [2, 2]}), "is no range"),
        (one_slice({"model": "a"}), "is no range"),
        (
            one_slice({"model": "a", "layer_range": [4, 8]}),
            r"slices\[0\] has layers \[4, 8\] where layer 0 should come",
        ),
        (
            one_slice({"model": "a", "layer_range": [0, 2]}, {"model": "b", "layer_range": [1, 3]}),
            r"layers \[1, 3\] of b are merged with layers \[0, 2\] of a",
        ),
        (with_(models=None, modules={"x": {"models": []}}), "models or slices"),
        (with_(models=None, modules={"x": PLAIN}), "unknown key 'merge_method'"),
        (
            with_(models=None, modules={"x": {"models": [{"model": "a"}]}, "y": {"models": [{"model": "b"}]}}),
            "in different ways",
        ),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(data, message):
    with pytest.raises(UsageError, match=message) as refused:
        parse(data)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("ranges", [[(0, 8), (4, 12)], [(0, 4), (8, 12)], [(4, 8), (0, 4)], [(0, 8), (0, 8)]], ids=str)
def test_layers_in_another_order_are_refused(ranges):
    slices = [{"sources": [{"model": "a", "layer_range": list(ends)}]} for ends in ranges]
    with pytest.raises(UsageError, match="cannot be a recipe"):
        parse(with_(models=None, slices=slices))


def test_what_mergekit_ignores_is_noted():
    data = with_(
        models=[{"model": "a", "layer_range": [0, 12]}],
        name="mine",
        chat_template="auto",
        tokenizer={"source": "base", "tokens": {"x": {}}, "pad_to_multiple_of": 8},
    )
    notes = parse(data).notes
    assert [note.split(" ")[0] for note in notes] == [
        "models[0].layer_range",
        "name",
        "chat_template",
        "tokenizer.tokens",
        "tokenizer.pad_to_multiple_of",
    ]


def test_one_module_is_the_model():
    document = parse({"merge_method": "ties", "base_model": "b", "modules": {"x": {"models": [{"model": "a"}]}}})
    assert [entry.model.model for entry in document.slices[0].inputs] == ["a", "b"]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "several documents"),
        ("a: *b", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("x: " + "[" * 1000, "not valid YAML"),
        ("x: " + "[" * 30 + "]" * 30, "too nested"),
        ("x: &x [*x]", "too nested"),
        (BOMB, "too large or too nested"),
        ("# " + "x" * (1 << 20), "too large"),
        ("a: " + "9" * 5000, "not valid YAML"),
    ],
    ids=["cut", "two", "alias", "python", "deep", "nested", "loop", "bomb", "long", "digits"],
)
def test_yaml_from_anybody_is_bounded(text, message):
    with pytest.raises(UsageError, match=message):
        load_yaml(text, "mergekit")
