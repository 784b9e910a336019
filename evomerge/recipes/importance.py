"""The importance of dimensions: how far each moves the merged model, from the sizes of the task vectors.

A step of a weight moves the model by the norm of the task vector in its group (a drop rate blurs it by as much): where
that is small the coordinate can hardly matter, and an optimizer may expect its score to vary slowly along it (SIP-BMM,
arXiv 2512.09972, takes length scales from these norms). This file knows nothing about weights: the norms are measured
elsewhere.
"""

import math
from collections.abc import Mapping

from evomerge.recipes.groups import Layout, finest_group
from evomerge.recipes.profiles import Profile, members

#: expert -> finest group (`layers.3.mlp`, `embeddings`) -> squared Euclidean norm of the task vector there.
SquaredNorms = Mapping[str, Mapping[str, float]]


def importances(profile: Profile, layout: Layout, norms: SquaredNorms | None, expert: str | None) -> list[float]:
    """Return the importance of each dimension of a parameter: 1 on average, 0 where it changes nothing.

    Dimension i moves a tensor's value by r between its bounds, and so the model by sqrt(sum r^2 |task vector|^2).

    Args:
        profile: of the parameter.
        layout: of the models.
        norms: None, and an expert without a task vector, give 1 everywhere.
        expert: whose parameter it is; None: an option's, on which all task vectors depend.
    """
    reach = profile.reach()
    if norms is None:
        return [1.0] * len(reach)
    experts = norms if expert is None else (expert,)
    squares = {
        group: math.fsum(norms[label].get(finest_group(tensor), 0.0) for label in experts for tensor in held)
        for group, held in members(layout.outline, {group: None for by_group in reach for group in by_group}).items()
    }
    moved = [math.sqrt(math.fsum(r * r * squares[group] for group, r in by_group.items())) for by_group in reach]
    mean = math.fsum(moved) / max(len(moved), 1)
    return [size / mean for size in moved] if mean else [1.0] * len(moved)
