"""Fronts: which points no other beats, how much space they cover, and which one to take.

Pure functions of points, an array of shape (n, m): n points, m objectives, larger is better in each. Everywhere a point
that holds NaN is as if it were not there (it is on no front, beats nothing, covers nothing), equal points do not beat
each other, and an infinite coordinate is a `ValueError`. This file knows nothing about what the objectives are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Return a mask of shape (n,): true where no other point is at least as good in all objectives and better in one.

    Of equal points all are kept. No points give an empty mask.
    """
    data = _points(points)
    mask: NDArray[np.bool_] = np.zeros(len(data), dtype=np.bool_)
    known = np.flatnonzero(~np.isnan(data).any(axis=1))
    # What beats a point has a sum that is no smaller and, where rounding made the sums equal, comes later in the order
    # of words: so each point needs to be compared only with those on the front among the ones before it.
    order = known[np.lexsort((*data[known].T[::-1], data[known].sum(axis=1)))[::-1]]
    front, size = np.empty_like(data), 0
    for i in order:
        ahead, point = front[:size], data[i]
        if not ((ahead >= point).all(axis=1) & (ahead > point).any(axis=1)).any():
            front[size], mask[i], size = point, True, size + 1
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume of all that lies below some point and above `reference`, shape (m,) (Zitzler and Thiele 1998).

    Exact, by slicing along the last objective (While et al. 2006); meant for up to four objectives and some two hundred
    points. A point that is not above the reference in every objective covers nothing; no points cover 0.
    """
    corner = np.asarray(reference, dtype=np.float64)
    data = _points(points)
    if corner.ndim != 1 or (len(data) and len(corner) != data.shape[1]):
        raise ValueError(f"a reference of shape {corner.shape} for points of shape {data.shape}")
    if not np.isfinite(corner).all():
        raise ValueError("the reference must be finite")
    if not len(data):
        return 0.0
    above = data[(data > corner).all(axis=1)] - corner  # a comparison with NaN is false
    return _volume(above) if len(above) else 0.0


def hypervolumes(points: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Return `hypervolume` of many small sets of points at once.

    Args:
        points: shape (sets, n, m); some twenty points and up to five objectives.
        reference: shape (m,).

    Returns shape (sets,).
    """
    data, corner = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if data.ndim != 3 or 0 in data.shape or corner.shape != data.shape[2:]:
        raise ValueError(f"a reference of shape {corner.shape} for sets of points of shape {data.shape}")
    above = data - corner
    return _volumes(np.where((above > 0).all(axis=2, keepdims=True), above, 0.0))  # a comparison with NaN is false


def knee(points: ArrayLike) -> int:
    """Return the index of the front's knee: the point farthest out from the plane through its ends (Das 1999).

    The front is first scaled to [0, 1] in each objective; the plane is the one whose normal is (1, ..., 1), so the knee
    is the point with the largest sum (with two objectives that is exactly the distance from the line between the two
    ends). An objective in which the front does not differ has no say. The first of equal points is taken; no points are
    a `ValueError`.
    """
    data, front = _front(points)
    low, span = data[front].min(axis=0), np.ptp(data[front], axis=0)
    scaled = (data[front] - low) / np.where(span > 0, span, 1.0)
    return int(front[int(scaled.sum(axis=1).argmax())])


def preferred(points: ArrayLike, weights: Sequence[float]) -> int:
    """Return the index of the front's point with the largest weighted sum of its coordinates as they are.

    Args:
        points: shape (n, m); bring the objectives to one scale first where they have different ones.
        weights: m numbers >= 0, not all 0.

    The first of equal points is taken; no points, or weights that do not fit, are a `ValueError`.
    """
    data, front = _front(points)
    preference = np.asarray(weights, dtype=np.float64)
    if preference.shape != (data.shape[1],) or not (preference >= 0).all() or not preference.sum() > 0:
        raise ValueError(
            f"weights {list(weights)} for {data.shape[1]} objectives: give each a number >= 0, one above 0"
        )
    return int(front[int((data[front] @ preference).argmax())])


def spread_out(points: ArrayLike, reference: ArrayLike, most: int) -> list[int]:
    """Return the indices of at most `most` points that together cover much: the best first, then whichever adds most.

    Greedy, which reaches at least 1 - 1/e of what the best such set covers, hypervolume being submodular (Nemhauser et
    al. 1978). Points that add nothing are left out; of equal ones the first is taken.
    """
    data = _points(points)
    taken: list[int] = []
    covered = 0.0
    while len(taken) < most:
        gains = [hypervolume(data[[*taken, i]], reference) - covered for i in range(len(data))]
        best = int(np.argmax(gains)) if gains else 0
        if not gains or gains[best] <= 1e-12 * max(covered, 1.0):
            break
        taken.append(best)
        covered += gains[best]
    return taken


def _points(points: ArrayLike) -> Points:
    data = np.asarray(points, dtype=np.float64)
    if data.shape == (0,):
        return data.reshape(0, 1)
    if data.ndim != 2 or data.shape[1] == 0:
        raise ValueError(f"expected points of shape (n, m), got {data.shape}")
    if np.isinf(data).any():
        raise ValueError("points must not be infinite")
    return data


def _front(points: ArrayLike) -> tuple[Points, NDArray[np.intp]]:
    """Return the points and the indices of those on the front."""
    data = _points(points)
    front = np.flatnonzero(non_dominated(data))
    if not len(front):
        raise ValueError("no points to choose from")
    return data, front


def _volume(points: Points) -> float:
    """Return the volume between the origin and points with positive coordinates, shape (n, m), n and m at least 1."""
    objectives = points.shape[1]
    if objectives == 1:
        return float(points.max())
    order = points[np.argsort(-points[:, -1], kind="stable")]
    thickness = order[:, -1] - np.append(order[1:, -1], 0.0)
    if objectives == 2:
        return float(thickness @ np.maximum.accumulate(order[:, 0]))
    total, kept = 0.0, order[:0, :-1]
    for i, slab in enumerate(thickness):
        kept = kept[(kept > order[i, :-1]).any(axis=1)]  # those that the new point does not cover
        if not (kept >= order[i, :-1]).all(axis=1).any():
            kept = np.vstack([kept, order[i, :-1]])
        if slab > 0:
            total += slab * _volume(kept)
    return float(total)


def _volumes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the volume between the origin and each set of points with coordinates >= 0, shape (sets, n, m)."""
    if points.shape[2] == 1:
        return np.asarray(points[:, :, 0].max(axis=1), dtype=np.float64)
    order = np.argsort(-points[:, :, -1], axis=1, kind="stable")
    points = np.take_along_axis(points, order[:, :, None], axis=1)
    thickness = -np.diff(points[:, :, -1], axis=1, append=0.0)
    if points.shape[2] == 2:
        return np.asarray((thickness * np.maximum.accumulate(points[:, :, 0], axis=1)).sum(axis=1), dtype=np.float64)
    total = np.zeros(len(points))
    for i in range(points.shape[1]):
        total += thickness[:, i] * _volumes(points[:, : i + 1, :-1])
    return total
