"""Whole numbers that remember how they were computed, so that a word problem writes its own solution and its own key.

Each operation on a `Number` appends one step such as `3*5=15` to the sheet, and keeps a canonical form in which
commuted and regrouped sums and products are equal. Knows nothing about stories.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Number:
    """A value and its canonical form: a sum of signed products, sorted."""

    value: int
    terms: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def form(self) -> str:
        """The canonical form as text."""
        return "".join("+-"[sign < 0] + "*".join(factors) for sign, factors in self.terms)


@dataclass
class Sheet:
    """A sheet of paper: the steps written so far."""

    steps: list[str] = field(default_factory=list)

    def given(self, value: int) -> Number:
        """A number that the problem states."""
        return Number(value, ((1, (str(value),)),))

    def add(self, a: Number, b: Number) -> Number:
        """Write a+b."""
        return self._write(a, "+", b, a.value + b.value, _sorted(a.terms + b.terms))

    def sub(self, a: Number, b: Number) -> Number:
        """Write a-b."""
        return self._write(a, "-", b, a.value - b.value, _sorted(a.terms + tuple((-s, f) for s, f in b.terms)))

    def mul(self, a: Number, b: Number) -> Number:
        """Write a*b."""
        return self._write(a, "*", b, a.value * b.value, ((1, tuple(sorted(_factors(a) + _factors(b)))),))

    def div(self, a: Number, b: Number) -> Number:
        """Write a/b; the division must come out even."""
        if a.value % b.value:
            raise ValueError(f"{a.value}/{b.value} leaves a rest")
        inverse = tuple("/" + f for f in _factors(b))
        return self._write(a, "/", b, a.value // b.value, ((1, tuple(sorted(_factors(a) + inverse))),))

    def _write(
        self, a: Number, op: str, b: Number, value: int, terms: tuple[tuple[int, tuple[str, ...]], ...]
    ) -> Number:
        self.steps.append(f"{a.value}{op}{b.value}={value}")
        return Number(value, terms)


def _sorted(terms: tuple[tuple[int, tuple[str, ...]], ...]) -> tuple[tuple[int, tuple[str, ...]], ...]:
    return tuple(sorted(terms, key=lambda term: (term[1], -term[0])))


def _factors(number: Number) -> tuple[str, ...]:
    if len(number.terms) == 1 and number.terms[0][0] == 1:
        return number.terms[0][1]
    return (f"({number.form})",)
