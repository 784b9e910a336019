"""From a run and a preference to a recipe: looked up in the run's predictions, built in its space, checked by its hash.

Reads the headers of the run's models, no weights. This file knows nothing about how predictions are made.
"""

from collections.abc import Mapping
from pathlib import Path

from evomerge.errors import UsageError, WorkError
from evomerge.recipes import Recipe
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory, write_text
from evomerge.search.opening import open_pool, open_spaces
from evomerge.search.predicted import Predicted, predicted_recipe, read_predictions


def predicted_choice(run: Path, prefer: Mapping[str, float]) -> tuple[Recipe, Predicted]:
    """Return the recipe that a finished run predicts to be the best for a preference, and what is expected of it.

    Args:
        run: the run directory.
        prefer: task -> weight; empty: the weights that the run was started with.

    Raises `UsageError` where the run has no predictions, they cannot be trusted, or its models are not the same.
    """
    point = read_predictions(run).best(prefer)
    config = SearchConfig.from_dict(RunDirectory(run).read_config())
    space = open_spaces(config, open_pool(config))[-1].space
    try:
        return predicted_recipe(space, point), point
    except UsageError as error:
        raise UsageError(f"{run}: {error}") from None


def write_predicted(run: Path, prefer: Mapping[str, float], file: Path) -> None:
    """Write the recipe for a preference into a file."""
    recipe, _ = predicted_choice(run, prefer)
    try:
        write_text(file, recipe.to_yaml())
    except OSError as error:
        raise WorkError(f"{file}: cannot be written: {error.strerror}") from None
