"""The generators of the zoo's three domains, by task name."""

from evomerge.zoo.problems import code, math, translate
from evomerge.zoo.problems.base import SPLITS, Maker, Problem, bucket, distinct, stream

MAKERS: dict[str, Maker] = {"math": math.make, "code": code.make, "translate": translate.make}

__all__ = ["MAKERS", "SPLITS", "Maker", "Problem", "bucket", "distinct", "stream"]
