import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from evomerge.config import conf_dir
from evomerge.errors import UsageError
from evomerge.evaluation.spec import TaskSpec
from evomerge.mergekit.genome import base_of_genome, from_genome, is_genome
from evomerge.merging import METHODS, check
from evomerge.recipes import SearchSpace
from evomerge.search.config import SearchConfig
from tests.mergekit.models import LAYERS, LAYOUT

GENOME = {
    "genome": {
        "models": ["org/math", "org/code"],
        "merge_method": "dare_ties",
        "base_model": "org/base",
        "layer_granularity": 4,
    },
    "tasks": [{"name": "gsm8k", "metric": "exact_match,strict-match"}, "mbpp"],
}


def with_(tasks=None, top=None, **genome):
    changed = {key: value for key, value in {**GENOME["genome"], **genome}.items() if value is not None}
    return {"genome": changed, "tasks": tasks or GENOME["tasks"], **(top or {})}


def composed(experiment, folder):
    """The configuration that the experiment makes, as `evomerge search --config-dir` composes it."""
    (folder / "experiment").mkdir(exist_ok=True)
    text = "# @package _global_\n" + yaml.safe_dump(experiment, sort_keys=False)
    (folder / "experiment" / "it.yaml").write_text(text)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        whole = compose("config", [f"hydra.searchpath=[file://{folder}]", "experiment=it"])
    return SearchConfig.from_dict(OmegaConf.to_container(whole, resolve=True))


def space_of(config):
    defaults = {n: {p.name: p.default for p in (*m.parameters, *m.options)} for n, m in METHODS.items()}
    return SearchSpace(
        base=config.models.base,
        experts=config.models.experts,
        layout=LAYOUT,
        config=config.space,
        method_parameters=defaults,
    )


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["apart", "at hand"])
@pytest.mark.parametrize(
    "genome",
    [
        {"merge_method": method, "base_model": None if method == "linear" else "org/base", **more}
        for method in ("linear", "task_arithmetic", "ties", "dare_ties")
        for more in (
            {"layer_granularity": 0},
            {"filters": ["self_attn", "mlp", "lm_head"], "allow_negative_weights": True},
            {"smooth": True, "normalize": True},
        )
    ]
    + [{"merge_method": "slerp", "base_model": None}, {"merge_method": "slerp", "base_model": "org/base"}],
    ids=str,
)
def test_every_genome_becomes_an_experiment_that_hydra_composes_and_the_search_takes(genome, layout, tmp_path):
    experiment, _ = from_genome(with_(**genome), layout)
    config = composed(experiment, tmp_path)
    assert "zoo:base" not in (config.models.base, *config.models.experts.values())
    assert set(config.tasks) == {"gsm8k", "mbpp"}
    for name, task in config.tasks.items():
        TaskSpec.from_dict(name, task)
    space = space_of(config)
    recipe = space.recipe([0.5] * len(space))
    check(recipe, LAYOUT)
    assert recipe.method == genome["merge_method"]


def test_the_space_has_the_genome_s_blocks_and_bounds():
    experiment, notes = from_genome(GENOME, LAYOUT)
    assert experiment["models"] == {
        "base": "org/base",
        "experts": {"math": "org/math", "code": "org/code"},
        "dtype": "bfloat16",
    }
    assert experiment["space"] == {
        "methods": ["dare_ties"],
        "granularity": 4,
        "split": False,
        "own": [],
        "parameters": {"weight": {"low": 0.0, "high": 1.5}, "drop_rate": {"low": 0.0, "high": 1.0}},
        "options": {"normalize": True, "rescale": "l1"},
    }
    assert experiment["tasks"]["gsm8k"] == {"task": "gsm8k", "metric": "exact_match", "filter": "strict-match"}
    assert any("chat_template" in note for note in notes)


def test_a_mean_has_the_base_among_its_models():
    listed = {"models": ["org/base", "org/math"], "base_model": "org/base"}
    mean = from_genome(with_(merge_method="linear", **listed))[0]["models"]
    assert mean["experts"] == {"base-2": "org/base", "math": "org/math"}
    vectors = from_genome(with_(merge_method="ties", **listed))[0]["models"]
    assert vectors["experts"] == {"math": "org/math"}


def test_filters_become_parts_and_groups_where_they_fit_exactly():
    for layout in (None, LAYOUT):
        space = from_genome(with_(filters=["self_attn", "mlp", "lm_head"]), layout)[0]["space"]
        assert (space["split"], space["own"]) == (True, ["head"])
        space, notes = from_genome(with_(filters=["q_proj"]), LAYOUT)
        assert not space["space"]["split"]
        assert any("filter 'q_proj' is not carried over" in note for note in notes)
    norms, notes = from_genome(with_(filters=["norm.weight"]), LAYOUT)
    assert norms["space"]["own"] == []
    assert any("'norm.weight' is not carried over" in note for note in notes), "it fits the norms of layers too"


def test_smooth_genes_become_anchors_of_a_gradient():
    space = from_genome(with_(smooth=True), LAYOUT)[0]["space"]
    assert space["parameters"]["weight"] == {"low": 0.0, "high": 1.5, "shape": "gradient", "anchors": LAYERS // 4}
    _, notes = from_genome(with_(smooth=True))
    assert any("smooth is not carried over" in note for note in notes)


def test_what_has_no_counterpart_is_named():
    tasks = [{"name": "a", "weight": 2.0}, {"name": "b", "weight": 0.5}]
    top = {"limit": 50, "num_fewshot": 3, "shuffle": True, "random_init": True}
    experiment, notes = from_genome(with_(tasks=tasks, top=top, tokenizer_source="org/math"))
    assert experiment["items"] == {"search": 50}
    assert {task["num_fewshot"] for task in experiment["tasks"].values()} == {3}
    told = "\n".join(notes)
    for word in ("tokenizer_source", "weights (a 2, b 0.5)", "shuffle", "random_init", "chat_template", "bounds"):
        assert word in told
    assert from_genome(with_(tokenizer_source="union"))[0]["models"]["vocabulary"] == "union"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_(merge_method="della"), "unknown merge_method 'della'"),
        (with_(layer_granularty=3), "did you mean 'layer_granularity'"),
        (with_(top={"limt": 3}), "did you mean 'limit'"),
        (with_(top={"limit": 0}), "limit 0 must be"),
        (with_(models=[]), "must be a list of models"),
        (with_(models=["org/base"]), "no model besides the base"),
        (with_(models=["a", "a"]), "names a model twice"),
        (with_(models=["other+lora"]), "does not sit on the base"),
        (with_(base_model=None), "needs a base_model"),
        (with_(merge_method="slerp", models=["a", "b", "c"]), "picks two anew"),
        (with_(layer_granularity=5), "does not divide the models' 12 layers"),
        (with_(filters="mlp"), "filters must be a list"),
        (with_(normalize="maybe"), "normalize 'maybe' must be"),
        (with_(tasks=[{"nme": "a"}]), "did you mean 'name'"),
        (with_(tasks=["a", "a"]), "named twice"),
        (with_(tasks=[{"name": "a", "weight": "x"}]), "is not a number"),
        ({"genome": GENOME["genome"]}, "tasks must be a list"),
        ({"genome": 3}, "genome must be a mapping"),
    ],
)
def test_what_is_no_genome_is_refused_in_one_line(data, message):
    with pytest.raises(UsageError, match=message) as refused:
        from_genome(data, LAYOUT)
    assert "\n" not in str(refused.value)


def test_a_genome_is_told_from_a_merge():
    assert is_genome(GENOME)
    assert not is_genome({"merge_method": "ties"})
    assert base_of_genome(GENOME) == "org/base"
    assert base_of_genome(with_(merge_method="linear", base_model=None)) == "org/math"
