"""The card's head as huggingface_hub reads it, and each thing that its text must say."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load

from evomerge.checkpoints.provenance import Provenance
from evomerge.recipes import Recipe
from evomerge.reporting.card import card, licence_warnings
from evomerge.reporting.card_facts import ItemSet, Parent, RunFacts, Scores, Written
from evomerge.reporting.licences import Licence

RECIPE = Recipe(
    method="linear",
    base="org/base@main",
    experts={"math": "org/math", "own": "./own"},
    parameters={"weight": {"math": {"layers.10": 0.25, "layers.2.mlp": 0.125, "all": 0.5}, "own": 0.75}},
    options={"normalize": {"all": True}},
)
COMMIT, DIGEST = "c0ffee" * 6 + "abcd", "ab" * 32
WRITTEN = Written(
    name="my-model",
    fingerprint="0123456789abcdef",
    parameters=1_234_567,
    files={"model.safetensors": "cd" * 32},
    causal=True,
    tokenizer_from=None,
    command="evomerge merge recipe.yaml OUT_DIR --expect 0123456789abcdef",
    versions={"evomerge": "0.1.0", "torch": "2.13.0"},
    mergekit=["a mask is not carried over"],
)
RESULT = {
    "task": {"type": "text-generation"},
    "dataset": {"type": "gsm8k", "name": "gsm8k, 200 items held out"},
    "metrics": [{"type": "exact_match", "value": 0.615, "name": "exact_match, 95 % interval [0.5, 0.7]"}],
}


def parents(*licences: str | None) -> dict[str, Parent]:
    """Base and experts with these licences in their cards."""
    names = {
        "base": ("org/base@main", "org/base"),
        "expert math": ("org/math", "org/math"),
        "expert own": ("./own", None),
    }
    given = [*licences, *[None] * (3 - len(licences))]
    return {
        role: Parent(
            Provenance(reference, Path(reference), hub, COMMIT if hub else None, {"model.safetensors": DIGEST}),
            Licence(licence, "README.md" if licence else None, {"license": licence} if licence else {}),
        )
        for (role, (reference, hub)), licence in zip(names.items(), given, strict=True)
    }


def facts(split: str = "report", openings: int = 1, **changes: object) -> RunFacts:
    given = {
        "found": {"optimizer": "map", "seed": "7"},
        "scores": Scores(split, ["model", "a %"], [["x|y", "61.5 [57.2, 65.6] †"]], ["† is a mark."]),
        "by_split": [("search", "0.62 ± 0.04"), ("report", "0.55 [0.41, 0.68]")],
        "items": [ItemSet("a", "report", 200, "65329a434e9a3b4b")],
        "openings": openings,
        "versions": {"evomerge": "0.1.0", "torch": "2.12.0", "lm-eval": "0.4.13"},
        "results": [RESULT],
    }
    return RunFacts(**{**given, **changes})


def section(text: str, name: str) -> str:
    return text.split(f"\n## {name}", 1)[1].split("\n## ", 1)[0]


def test_huggingface_hub_reads_the_head(tmp_path: Path) -> None:
    text = card(RECIPE, WRITTEN, parents("mit", "mit", "mit"), facts())
    (tmp_path / "README.md").write_text(text)
    read = ModelCard.load(tmp_path / "README.md")  # refuses a model-index that it cannot read
    assert metadata_load(tmp_path / "README.md") == read.data.to_dict()
    assert read.data.base_model == ["org/base", "org/math"]
    assert read.data.base_model_relation == "merge"
    assert read.data.license == "mit"
    assert read.data.library_name == "transformers"
    assert read.data.pipeline_tag == "text-generation"
    assert {"merge", "evomerge"} <= set(read.data.tags)
    assert read.data.model_name == "my-model"
    [result] = read.data.eval_results
    assert (result.task_type, result.dataset_type, result.metric_type) == ("text-generation", "gsm8k", "exact_match")
    assert result.metric_value == 0.615
    assert read.text.lstrip().startswith("# my-model")


def test_a_head_without_hub_parents_scores_or_a_language_model() -> None:
    local = {"expert own": parents()["expert own"]}
    data = ModelCard(card(RECIPE, Written(**{**vars(WRITTEN), "causal": False}), local, None)).data.to_dict()
    assert not {"base_model", "base_model_relation", "model-index", "pipeline_tag"} & data.keys()


@pytest.mark.parametrize(
    ("licences", "named"),
    [
        (("apache-2.0", "apache-2.0", "apache-2.0"), "apache-2.0"),
        (("apache-2.0", "apache-2.0", None), "unknown"),
        (("apache-2.0", "mit", "mit"), "other"),
        ((None, None, None), "unknown"),
    ],
)
def test_the_licence_is_what_all_parents_name_and_never_a_guess(licences: tuple[str | None, ...], named: str) -> None:
    text = card(RECIPE, WRITTEN, parents(*licences), None)
    assert ModelCard(text).data.license == named
    if named in ("unknown", "other"):
        assert "**Warning:**" in section(text, "Licence")
        for line in licence_warnings(parents(*licences)):
            assert line in section(text, "Licence")
    else:
        assert "Warning" not in section(text, "Licence")


def test_parents_with_revisions_licences_and_file_hashes() -> None:
    text = card(RECIPE, WRITTEN, parents("mit", "gpl-3.0"), facts())
    table = section(text, "Made from")
    assert f"| base | `org/base@main` | `{COMMIT}` | mit |" in table
    assert f"| expert math | `org/math` | `{COMMIT}` | gpl-3.0 |" in table
    assert "| expert own | `./own` | - | **unknown** |" in table
    files = section(text, "Files")
    for role in ("base", "expert math", "expert own"):
        assert f"| {role} | model.safetensors | `{DIGEST}` |" in files
    assert f"| this model | model.safetensors | `{'cd' * 32}` |" in files


def test_the_recipe_as_a_table_and_whole() -> None:
    text = card(RECIPE, WRITTEN, parents(), None)
    lines = [line for line in section(text, "Recipe").splitlines() if line.startswith("|")]
    assert lines == [
        "| tensors | weight math | weight own | normalize |",
        "| --- | --- | --- | --- |",
        "| layers.2.mlp | 0.125 |  |  |",
        "| layers.10 | 0.25 |  |  |",
        "| all | 0.5 | 0.75 | True |",
    ]
    assert RECIPE.hash in section(text, "Recipe")
    assert Recipe.from_dict(yaml.safe_load(text.split("```yaml")[1].split("```")[0])).hash == RECIPE.hash


@pytest.mark.parametrize(
    ("split", "openings", "says"),
    [
        ("search", 0, ["on the search split", "optimizer saw these", "opened its report split 0 times"]),
        ("selection", 0, ["on the selection split", "finalists", "opened its report split 0 times"]),
        ("selection", 1, ["on the selection split", "opened its report split 1 time."]),
        ("report", 3, ["on the report split", "took no part", "opened its report split 3 times"]),
    ],
)
def test_scores_say_what_they_are_of_and_how_often_the_report_was_opened(split, openings, says):
    text = card(RECIPE, WRITTEN, parents(), facts(split, openings))
    for words in says:
        assert words in text
    assert "| model | a % |\n| --- | --- |\n| x\\|y | 61.5 [57.2, 65.6] † |\n\n† is a mark.\n" in text
    assert "| report | 0.55 [0.41, 0.68] |" in text


def test_item_sets_versions_and_how_it_was_found():
    text = card(RECIPE, WRITTEN, parents(), facts(openings=2))
    assert "| a | report | 200 | `65329a434e9a3b4b` |" in section(text, "Items")
    assert "| optimizer | map |" in section(text, "How it was found")
    assert "| torch | 2.13.0 | 2.12.0 |" in section(text, "Versions")
    assert "| lm-eval | - | 0.4.13 |" in section(text, "Versions")


def test_how_to_rebuild_it_and_what_mergekit_is_not_told():
    rebuild = section(card(RECIPE, WRITTEN, parents(), None), "Rebuild")
    assert WRITTEN.command in rebuild
    assert "0123456789abcdef" in rebuild
    assert "Local directories, to be replaced by your own: expert own." in rebuild
    assert "(`org/name@revision`): base, expert math." in rebuild
    assert "those of the base" in rebuild
    assert "- a mask is not carried over" in rebuild
    none = Written(**{**vars(WRITTEN), "mergekit": None, "no_mergekit": "mergekit has no method 'pcb'"})
    assert "There is no `mergekit.yaml`: mergekit has no method 'pcb'." in card(RECIPE, none, parents(), None)


def test_a_tokenizer_from_an_expert_is_not_the_one_that_was_scored():
    chat = Written(**{**vars(WRITTEN), "tokenizer_from": "math"})
    assert "of the expert math. The scores above were measured with the base's." in card(
        RECIPE, chat, parents(), facts()
    )
    assert "measured with" not in card(RECIPE, chat, parents(), None)


def test_no_scores_are_no_table():
    text = card(RECIPE, WRITTEN, parents(), None)
    assert "outside a run that scored it" in text
    assert "report split" not in text


def test_a_prediction_is_no_score():
    promised = facts(scores=None, by_split=[], results=[], predicted=["a: 0.600 [0.500, 0.700]"])
    text = card(RECIPE, WRITTEN, parents(), promised)
    assert "None: this model was not scored." in text
    assert "opened its report split 1 time." in text
    assert "with 95 % probability all intervals hold:\n\n- a: 0.600 [0.500, 0.700]\n" in text
    assert "model-index" not in text


def test_a_name_cannot_begin_something_of_its_own():
    spoilt = parents()
    evil = Provenance("x\n---\n# Evil `y` | z", Path(), None, None, {})
    text = card(RECIPE, WRITTEN, {**spoilt, "base": Parent(evil, Licence("a\n# Bad", "LICENSE", {}))}, None)
    assert "# Evil" not in [line[:6] for line in text.splitlines()]
    assert "| base | `x --- # Evil y \\| z` |" in text
    assert "\n# Bad" not in text
