import pytest
import yaml

from evomerge.recipes import Recipe
from evomerge.reporting.card import Scores, card

RECIPE = Recipe(
    method="linear",
    base="org/base@main",
    experts={"math": "org/math", "own": "./own"},
    parameters={"weight": {"math": 0.5, "own": 0.5}},
)


def test_the_head_names_parents_on_the_hub_and_guesses_no_licence():
    head = yaml.safe_load(card(RECIPE).split("---")[1])
    assert head["base_model"] == ["org/base", "org/math"]
    assert head["license"] == "other"


def test_the_recipe_in_the_card_is_the_recipe():
    text = card(RECIPE)
    assert Recipe.from_dict(yaml.safe_load(text.split("```yaml")[1].split("```")[0])).hash == RECIPE.hash


@pytest.mark.parametrize(
    ("split", "openings", "says"),
    [
        ("search", 0, ["on the search split", "optimizer saw these", "opened its report split 0 times"]),
        ("selection", 0, ["on the selection split", "finalists", "opened its report split 0 times"]),
        ("selection", 1, ["on the selection split", "opened its report split 1 time by"]),
        ("report", 3, ["on the report split", "took no part", "opened its report split 3 times"]),
    ],
)
def test_scores_say_what_they_are_of_and_how_often_the_report_was_opened(split, openings, says):
    text = card(RECIPE, scores=Scores(split, ["model", "a %"], [["x|y", "61.5 †"]], ["† is a mark."], openings))
    for words in says:
        assert words in text
    assert "| model | a % |\n| --- | --- |\n| x\\|y | 61.5 † |\n\n† is a mark.\n" in text


def test_no_scores_are_no_table():
    text = card(RECIPE)
    assert "outside a run that scored it" in text
    assert "report split" not in text
