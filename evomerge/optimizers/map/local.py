"""What a quadratic misses, passed on to nearby points: simple kriging of its residuals.

    residual(x) = local(x) + noise,   cov(local(x), local(x')) = variance strength exp(-|x - x'|^2 / 2 length^2)
    var(noise_i) = variance / w_i

Length and strength are those, of a small grid, that predict each left-out residual best (closed form: with K the
covariance over `variance`, the error left out is (K^-1 r)_i / (K^-1)_ii); no correction at all is one of them, and is
kept unless another is clearly better. This file knows nothing about quadratics, merging or scores.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Lengths in units of the mean distance between two points, strengths in units of the mean of 1 / w.
LENGTHS = (0.25, 0.5, 1.0)
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
#: The weighted sum of squared left-out errors must fall to this share of the sum of squared residuals.
WORTH_IT = 0.9


@dataclass(frozen=True)
class Local:
    """A correction learnt from n residuals.

    Attributes:
        points: (n, columns).
        length, strength: the hyperparameters; strength is the prior variance over `variance`.
        solved: (n,), K^-1 r.
        inverse: (n, n), K^-1.
        variance: of a residual of weight 1 that is no local effect.
        left_out: the error of each residual predicted by the others, (n,).
    """

    points: Array
    length: float
    strength: float
    solved: Array
    inverse: Array
    variance: float
    left_out: Array

    def mean(self, points: Array) -> Array:
        """Return the correction at points (n', columns), (n',)."""
        return np.asarray(self._covariance(points) @ self.solved)

    def spread(self, points: Array) -> Array:
        """Return the variance of the correction at points, (n',)."""
        near = self._covariance(points)
        return np.asarray(self.variance * np.maximum(self.strength - ((near @ self.inverse) * near).sum(axis=1), 0.0))

    def _covariance(self, points: Array) -> Array:
        return self.strength * _bell(_squares(points, self.points), self.length)


def fit(points: Array, residuals: Array, weights: Array) -> Local | None:
    """Learn a correction from residuals (n,) of weights (n,) at points (n, columns); None if none is worth it."""
    squares = _squares(points, points)
    typical = float(np.sqrt(squares).mean())
    if typical == 0.0:
        return None
    root = np.sqrt(weights)
    whitened = root * residuals
    unit = 1.0 / weights.mean()
    best, found = WORTH_IT * float(whitened @ whitened), None
    for length in LENGTHS:
        sizes, vectors = np.linalg.eigh(root[:, None] * _bell(squares, length * typical) * root)
        along, shares = vectors.T @ whitened, vectors**2
        for strength in STRENGTHS:
            shrunk = 1.0 / (1.0 + strength * unit * np.maximum(sizes, 0.0))
            errors = (vectors @ (shrunk * along)) / (shares @ shrunk)
            total = float(errors @ errors)
            if total < best:
                best, found = total, (length * typical, strength * unit, vectors, shrunk, errors, shares @ shrunk)
    if found is None:
        return None
    length, strength, vectors, shrunk, errors, diagonal = found
    inverse = root[:, None] * ((vectors * shrunk) @ vectors.T) * root
    return Local(
        points=points,
        length=length,
        strength=strength,
        solved=inverse @ residuals,
        inverse=inverse,
        variance=float(np.mean(errors**2 * diagonal)),
        left_out=errors / root,
    )


def _squares(a: Array, b: Array) -> Array:
    found = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    return np.asarray(np.maximum(found, 0.0))


def _bell(squares: Array, length: float) -> Array:
    return np.asarray(np.exp(-squares / (2.0 * length**2)))
