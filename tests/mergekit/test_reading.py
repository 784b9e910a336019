import pytest
import yaml

from evomerge.errors import UsageError
from evomerge.mergekit.reading import from_mergekit, models_of, needs_layout
from evomerge.recipes import Layout
from evomerge.recipes.groups import value_at
from tests.mergekit.models import LAYERS, LAYOUT

WHOLE = [0, LAYERS]


def read(text, layout=LAYOUT, **more):
    return from_mergekit(yaml.safe_load(text), layout, **more)


def at(groups, tensor):
    return value_at(groups, tensor)


def refused(text, *words, layout=LAYOUT):
    with pytest.raises(UsageError) as error:
        read(text, layout)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value), error.value


SLERP = f"""
slices:
  - sources:
      - {{model: org/a, layer_range: {WHOLE}}}
      - {{model: org/b, layer_range: {WHOLE}}}
merge_method: slerp
base_model: org/a
parameters:
  t:
    - {{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}}
    - {{filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}}
    - value: 0.5
dtype: bfloat16
"""


def test_the_example_that_everybody_copies():
    """The slerp of mergekit's own examples: gradients under filters."""
    recipe, notes = read(SLERP)
    assert (recipe.method, recipe.base, dict(recipe.experts)) == ("slerp", "org/a", {"b": "org/b"})
    t = recipe.options["t"]
    expected = [0, 0.5, 0.3, 0.7, 1]
    for layer in range(LAYERS):
        along = layer / (LAYERS - 1) * 4
        before = int(along)
        after = min(before + 1, 4)
        value = expected[before] + (along - before) * (expected[after] - expected[before])
        assert at(t, f"layers.{layer}.self_attn.q_proj.weight") == pytest.approx(value)
        assert at(t, f"layers.{layer}.mlp.gate_proj.weight") == pytest.approx(1 - value)
        assert at(t, f"layers.{layer}.input_layernorm.weight") == 0.5
    assert {at(t, name) for name in ("embed_tokens.weight", "norm.weight", "lm_head.weight")} == {0.5}
    assert recipe.dtype == "bfloat16"
    assert notes == ["dtype: mergekit computes in bfloat16, evomerge in float32 with one rounding at the end"]


def test_slerp_from_the_second_model_turns_t_round():
    turned = SLERP.replace("base_model: org/a", "base_model: org/b")
    recipe, _ = read(turned)
    assert (recipe.base, dict(recipe.experts)) == ("org/b", {"a": "org/a"})
    sources = ", ".join(f"{{model: org/{name}, layer_range: {WHOLE}}}" for name in "ab")
    one = f"{{sources: [{sources}], base_model: org/b}}"
    between, _ = read(f"{{merge_method: slerp, base_model: org/base, slices: [{one}], parameters: {{t: 0.3}}}}")
    assert (between.base, dict(between.experts)) == ("org/base", {"a": "org/a", "b": "org/b"})
    assert between.options["t"] == {"all": 0.7}


def test_norm_and_head_take_the_first_value_of_a_gradient():
    recipe, _ = read("""
        {merge_method: ties, base_model: o/base, dtype: float32, models: [
          {model: o/a, parameters: {weight: [1, 0], density: [0.5, 0.25]}},
          {model: o/b, parameters: {weight: 0.5}}]}""")
    weight, drop = recipe.parameters["weight"]["a"], recipe.parameters["drop_rate"]["a"]
    assert [at(weight, name) for name in ("embed_tokens.weight", "norm.weight", "lm_head.weight")] == [1.0, 1.0, 1.0]
    assert at(weight, f"layers.{LAYERS - 1}.norm.weight") == 0.0
    assert at(drop, "lm_head.weight") == 0.5
    assert at(drop, f"layers.{LAYERS - 1}.norm.weight") == 0.75
    assert recipe.parameters["drop_rate"]["b"] == {"all": 0.0}


def test_the_nearest_scope_wins():
    one = """{sources: [{model: o/a, layer_range: [0, 6], parameters: {weight: 0.1}}, {model: o/b, layer_range: [0, 6]},
              {model: o/base, layer_range: [0, 6]}], parameters: {weight: 0.2}}"""
    two = one.replace("[0, 6]", "[6, 12]").replace(", parameters: {weight: 0.2}}", "}")
    recipe, _ = read(
        f"{{merge_method: task_arithmetic, base_model: o/base, parameters: {{weight: 0.3}}, slices: [{one}, {two}]}}"
    )
    a = recipe.parameters["weight"]["a"]
    assert [at(a, name) for name in ("layers.5.norm.weight", "layers.6.norm.weight")] == [0.1, 0.1]
    b = recipe.parameters["weight"]["b"]
    assert [at(b, name) for name in ("embed_tokens.weight", "layers.5.norm.weight")] == [0.2, 0.2]
    assert [at(b, name) for name in ("layers.6.norm.weight", "norm.weight", "lm_head.weight")] == [0.3, 0.3, 0.3]


def test_a_module_goes_before_the_whole_file():
    recipe, _ = read("""{merge_method: ties, base_model: b, parameters: {weight: 0.1, lambda: 0.2},
        modules: {default: {parameters: {weight: 0.3}, models: [{model: a}]}}}""")
    assert recipe.parameters["weight"] == {"a": {"all": 0.3}}
    assert recipe.options["lambda"] == {"all": 0.2}


def test_each_slice_has_its_own_gradient():
    sources = "{sources: [{model: o/a, layer_range: %s, parameters: {weight: [0, 1]}}]}"
    slices = ", ".join(sources % ends for ends in ([0, 5], [5, 11], [11, 12]))
    recipe, _ = read(f"{{merge_method: linear, slices: [{slices}]}}")
    weight = recipe.parameters["weight"]["a"]
    values = [at(weight, f"layers.{layer}.norm.weight") for layer in range(LAYERS)]
    assert values == pytest.approx([0, 0.25, 0.5, 0.75, 1, 0, 0.2, 0.4, 0.6, 0.8, 1, 1])


def test_a_model_that_is_in_some_slices_only_has_no_weight_in_the_others():
    a, b = (f"{{model: o/{label}, layer_range: [0, 6], parameters: {{weight: 0.5}}}}" for label in "ab")
    slices = f"{{sources: [{a}, {b}]}}, {{sources: [{a.replace('[0, 6]', '[6, 12]')}]}}"
    recipe, _ = read(f"{{merge_method: linear, slices: [{slices}]}}")
    assert at(recipe.parameters["weight"]["b"], "layers.6.norm.weight") == 0.0
    assert at(recipe.parameters["weight"]["b"], "layers.5.norm.weight") == 0.5
    bare = slices.replace(", parameters: {weight: 0.5}", "")
    refused(f"{{merge_method: karcher, slices: [{bare}]}}", "o/b is in some slices only")


def test_layers_taken_from_several_models_are_copies():
    slices = ", ".join(f"{{sources: [{{model: o/{m}, layer_range: {e}}}]}}" for m, e in (("a", [0, 6]), ("b", [6, 12])))
    recipe, notes = read(f"{{merge_method: passthrough, base_model: o/base, slices: [{slices}], dtype: float32}}")
    assert recipe.method == "linear"
    sources = recipe.options["passthrough"]
    assert at(sources, "embed_tokens.weight") == at(sources, "layers.5.norm.weight") == "a"
    assert at(sources, "layers.6.norm.weight") == at(sources, "norm.weight") == at(sources, "lm_head.weight") == "b"
    assert "passthrough of several models" in notes[0]


def test_what_has_no_effect_is_noted():
    _, notes = read("""
        {merge_method: task_arithmetic, base_model: o/base, dtype: float32, parameters: {int8_mask: true, t: 0.5},
         models: [{model: o/a, parameters: {weight: 1, density: 0.5}}]}""")
    assert [note.split(" ")[0] for note in notes] == ["int8_mask", "t", "density"]


def test_the_base_may_be_listed_and_its_parameters_count_for_nothing():
    recipe, notes = read("""{merge_method: ties, base_model: o/base, dtype: float32, parameters: {density: 0.5},
        models: [{model: o/base, parameters: {weight: 0.2}}, {model: o/a, parameters: {weight: 1}}]}""")
    assert recipe.parameters == {"weight": {"a": {"all": 1.0}}, "drop_rate": {"a": {"all": 0.5}}}
    assert notes == ["parameters of the base are left out: mergekit does not use them"]


def test_mergekit_restores_the_norm_after_dropping():
    text = "{merge_method: dare_ties, base_model: b/b, models: [{model: o/a, parameters: {weight: 1, density: 0.5}}]%s}"
    recipe, notes = read(text % ", dtype: float32")
    assert recipe.options == {"rescale": {"all": "l1"}}
    assert [note.split(" ")[0] for note in notes] == ["masks"]
    refused(text % ", parameters: {rescale: false}", "rescale: false", "multiply the weight by the density")
    refused((text % ", parameters: {rescale: true}").replace("dare_ties", "ties"), "rescale: true", "leave it out")
    harmless, _ = read((text % ", parameters: {rescale: true}").replace("dare_ties", "ties").replace("0.5", "1"))
    assert harmless.options == {}


def test_task_vectors_are_meant_where_a_base_is_named():
    models = "models: [{model: o/a}, {model: o/b}], parameters: {weight: 1}"
    for method, default in (("nuslerp", True), ("multislerp", False)):
        recipe, notes = read(f"{{merge_method: {method}, {models}}}")
        assert recipe.options.get("task_vectors", {"all": default}) == {"all": False}
        assert recipe.base == "o/a"
        assert "o/a is taken for the base" in notes[0]
        named, _ = read(f"{{merge_method: {method}, {models}, base_model: o/base}}")
        assert named.options.get("task_vectors", {"all": default}) == {"all": True}
        given, _ = read(f"{{merge_method: {method}, {models}}}", base="o/origin")
        assert given.base == "o/origin"


def test_a_mean_counts_the_base_among_its_models():
    text = "{merge_method: linear, base_model: o/base, models: [{model: o/a, parameters: {weight: 1}}]}"
    refused(text, "weight of o/base has no value")
    recipe, _ = read(text.replace("[{", "[{model: o/base, parameters: {weight: 0.5}}, {"))
    assert (recipe.base, dict(recipe.experts)) == ("o/base", {"a": "o/a", "base-2": "o/base"})
    karcher, _ = read("{merge_method: karcher, base_model: o/base, models: [{model: o/a}]}")
    assert set(karcher.experts) == {"a", "base-2"}


@pytest.mark.parametrize(
    ("lines", "vocabulary", "notes"),
    [
        ("", "same", 0),
        (", tokenizer_source: union", "union", 1),
        (", tokenizer_source: base", "base", 1),
        (", tokenizer_source: o/base", "base", 0),
        (", tokenizer_source: o/a", "same", 1),
        (", tokenizer: {source: union, pad_to_multiple_of: 8}", "union", 2),
    ],
)
def test_whose_vocabulary(lines, vocabulary, notes):
    models = "models: [{model: o/a, parameters: {weight: 1}}]"
    recipe, told = read(f"{{merge_method: ties, base_model: o/base, dtype: float32, {models}{lines}}}")
    assert recipe.vocabulary == vocabulary
    assert len(told) == notes


def test_the_dtype_is_that_of_the_result():
    text = "{merge_method: ties, base_model: o/base, models: [{model: o/a, parameters: {weight: 1}}]%s}"
    assert read(text % ", dtype: float32, out_dtype: torch.float16")[0].dtype == "float16"
    assert read(text % ", dtype: float16")[0].dtype == "float16"
    assert read(text % "", dtype="float32")[0].dtype == "float32"
    recipe, notes = read(text % "")
    assert recipe.dtype == "bfloat16"
    assert any("bfloat16 is taken" in note for note in notes)


def test_labels_are_the_models_names_and_differ():
    models = ", ".join(f"{{model: {m}, parameters: {{weight: 1}}}}" for m in ("x/a", "y/a@v2", "/z/a/", "b/b+x/lora"))
    recipe, _ = read(f"{{merge_method: ties, base_model: b/b, models: [{models}]}}")
    assert dict(recipe.experts) == {"a": "x/a", "a-2": "y/a@v2", "a-3": "/z/a/", "lora": "x/lora"}


def test_slerp_of_two_experts_keeps_the_order_of_its_models():
    one = f"{{sources: [{{model: o/b, layer_range: {WHOLE}}}, {{model: o/a, layer_range: {WHOLE}}}], base_model: o/b}}"
    recipe, _ = read(f"{{merge_method: slerp, base_model: o/base, slices: [{one}], parameters: {{t: 0.3}}}}")
    assert dict(recipe.experts) == {"1-b": "o/b", "2-a": "o/a"}
    assert recipe.options["t"] == {"all": 0.3}


MODEL = "{model: o/a, parameters: {weight: 1}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{merge_method: tise, models: [{model: a}]}", ["unknown merge_method 'tise'", "did you mean 'ties'"]),
        ("{merge_method: nearswap, base_model: b, models: [{model: a}]}", ["no counterpart of method 'nearswap'"]),
        (f"{{merge_method: ties, models: [{MODEL}]}}", ["ties needs a base_model"]),
        ("{merge_method: ties, base_model: b, models: [{model: a}]}", ["weight of a has no value", "embed_tokens"]),
        ("{merge_method: slerp, base_model: b, models: [{model: a}]}", ["t has no value"]),
        ("{merge_method: slerp, base_model: b, models: [{model: a}, {model: c}], parameters: {t: 1}}", ["two models"]),
        ("{merge_method: nuslerp, models: [{model: a}], parameters: {weight: 1}}", ["takes 2 models", "not 1"]),
        ("{merge_method: model_stock, base_model: b, models: [{model: a}]}", ["takes at least 2 models"]),
        (f"{{merge_method: ties, base_model: b+lora, models: [{MODEL}]}}", ["the base has a LoRA adapter"]),
        ("{merge_method: ties, base_model: b, parameters: {weight: 1}, models: [{model: c+l}]}", ["sits on c"]),
        (
            "{merge_method: linear, slices: [{sources: [{model: a, layer_range: [0, 8], parameters: {weight: 1}}]}]}",
            ["end at layer 8, but the models have 12"],
        ),
        (
            "{merge_method: ties, base_model: b, slices: [{sources: [{model: a, layer_range: [0, 12]}]}]}",
            ["base_model b is not among the sources"],
        ),
        (
            "{merge_method: ties, base_model: b, models: [{model: a, parameters: {weight: "
            "[{filter: q_proj, value: 1}, {value: 0.5}]}}]}",
            ["q_proj.weight", "o_proj.weight", "single tensors"],
        ),
        ("{merge_method: ties, base_model: b, models: [{model: a, parameters: {weight: much}}]}", ["'much'"]),
    ],
)
def test_what_cannot_be_a_recipe_is_refused(text, words):
    refused(text, *words)


def test_gradients_of_two_stacks_are_their_own():
    """In a vision-language model mergekit runs a gradient over each tower; the encoder is one group here."""
    layout = Layout.of([*LAYOUT.tensors, *(f"visual.blocks.{layer}.attn.weight" for layer in range(3))])
    text = "{merge_method: ties, base_model: b, models: [{model: a, parameters: {weight: %s}}]}"
    refused(text % "[0, 1]", "visual.blocks.0", "visual.blocks.1", layout=layout)
    recipe, _ = read(text % "[{filter: visual, value: 0.5}, {value: [0, 1]}]", layout)
    assert at(recipe.parameters["weight"]["a"], "visual.blocks.2.attn.weight") == 0.5
    assert at(recipe.parameters["weight"]["a"], f"layers.{LAYERS - 1}.norm.weight") == 1.0


def test_a_plain_merge_can_be_read_without_a_model():
    text = "{merge_method: ties, base_model: b, models: [{model: a, parameters: {weight: %s}}], dtype: float16}"
    assert not needs_layout(yaml.safe_load(text % "0.5"))
    recipe, _ = read(text % "0.5", None)
    assert recipe.parameters == {"weight": {"a": {"all": 0.5}}}
    assert needs_layout(yaml.safe_load(text % "[0, 1]"))
    assert needs_layout(yaml.safe_load(SLERP))
    assert models_of(yaml.safe_load(SLERP)) == ["org/a", "org/b"]
