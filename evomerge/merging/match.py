"""Whether a recipe is about the models of a pool. This file reads no weights."""

from evomerge.checkpoints import ModelPool, resolve
from evomerge.errors import UsageError
from evomerge.recipes import Recipe


def check_same_models(recipe: Recipe, pool: ModelPool) -> None:
    """Refuse (`UsageError`) a recipe with an expert that the pool lacks, or other models under the same names."""
    _refuse_other("base", recipe.base, pool.references[""], pool.base.path)
    if recipe.vocabulary != pool.vocabulary:
        raise UsageError(
            f"recipe: vocabulary is {recipe.vocabulary}, but the models were opened with {pool.vocabulary}; "
            "write the same in both"
        )
    for label, reference in recipe.experts.items():
        if label not in pool.experts:
            raise UsageError(f"recipe: expert {label!r} is not among those loaded: {', '.join(pool.experts)}")
        _refuse_other(f"expert {label!r}", reference, pool.references[label], pool.experts[label].path)


def _refuse_other(what: str, wanted: str, loaded: str, path: object) -> None:
    if wanted != loaded and resolve(wanted) != path:
        raise UsageError(f"recipe: {what} is {wanted}, but {loaded} is loaded; load the models that the recipe names")
