"""Groups: which tensors of a model share one value of a merge parameter.

A tensor's name alone says where it belongs: `model.layers.3.self_attn.q_proj.weight` is attention of layer 3,
`lm_head.weight` is the head. A group is a short name for a set of tensors:

    all                   every tensor that no other group of the same parameter names (the fallback)
    embeddings, head      token (and position) embeddings, output head
    norms                 norms outside the layers (a layer's own norms belong to the layer's `rest`)
    encoder               what turns another input into states before the layers see it: the vision or audio tower of a
                          multimodal model, the encoder of an encoder-decoder, its own layers included
    projector             what fits the encoder's states to the language model
    other                 anything else outside the layers
    layers                every layer
    layers.3, layers.0-2  one layer, a block of layers (both ends included)
    ... .attention | .mlp | .rest    that part of a layer or block, as in `layers.0-2.mlp`

The layers are those of the language model that writes the answer (a decoder's): layer 3 of a vision tower or of an
encoder is no layer 3, it shares one value with the rest of the `encoder`. `attention` is whatever mixes tokens
(attention, linear attention, Mamba and other recurrences, short convolutions), `mlp` whatever works on one token at a
time (experts and their routers included), `rest` the layer's norms and what is left.

This file knows names only: no tensors, no files, no architectures; it goes by the words that names are made of.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

from evomerge.errors import UsageError

T = TypeVar("T")

ALL = "all"
OUTSIDE = ("embeddings", "head", "norms", "encoder", "projector", "other")
PARTS = ("attention", "mlp", "rest")

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer|block)\.(\d+)\.(.+)")
_GROUP = re.compile(r"layers(?:\.(\d+)(?:-(\d+))?)?(?:\.(attention|mlp|rest))?")
# Patterns of one segment of a name (between two dots), each matched as a whole.
_APART = re.compile(r"mtp|talker|token2wav|code2wav")  # models of their own in the same file, with layers of their own
_PROJECTOR = re.compile(
    r".*projector.*|(?:language|visual|vision|image|audio|modality)_proj(?:ection)?|connector|(?:.+_)?merger(?:_list)?"
    r"|q_?former|resampler|perceiver|aligner|embed_(?:vision|audio)"
)
_ENCODER = re.compile(r"(?:vision|visual|image|audio|speech)(?:_.+)?|encoder|vit")
_TOKENS = re.compile(r"embed_tokens|shared|wte|(?:word|tok)_embeddings")
_EMBEDDINGS = re.compile(r"shared|wte|wpe|embed_.+|(?:.+_)?embeddings?")
_HEAD = re.compile(r"(?:lm_)?head|embed_out|output(?:_projection)?|proj_out|final_logits_bias")
_NORM = re.compile(r".*norm.*|(?:.+_)?ln(?:_.+|\d*)", re.IGNORECASE)
_MLP = re.compile(
    r"(?:.+_)?mlp(?:_.+)?|feed_forward|ffn|(?:.+_)?moe|(?:shared_)?experts?|router|denserel?udense|densegatedactdense",
    re.IGNORECASE,
)
_MIXER = re.compile(r".*attn.*|.*attention.*|mixer|mamba|conv|temporal_block", re.IGNORECASE)
# Projections of an MLP that lie in the layer itself, or in a mixer that is one.
_MLP_LEAF = re.compile(r"fc\d|(?:gate_?)?(?:up|down)_proj|gate_proj|gate")


@dataclass(frozen=True)
class Place:
    """Where a tensor sits: `layer` and `part` inside the layers, or `kind` (one of `OUTSIDE`) outside them."""

    kind: str
    layer: int | None = None
    part: str | None = None


@lru_cache(maxsize=65536)
def place(tensor: str) -> Place:
    """Return the place of a tensor, read off its name.

    >>> place("model.layers.3.mlp.up_proj.weight")
    Place(kind='layers', layer=3, part='mlp')
    >>> place("model.visual.blocks.3.mlp.fc1.weight")
    Place(kind='encoder', layer=None, part=None)
    """
    segments = tensor.split(".")
    if _any(_APART, segments):
        return Place("other")
    if _any(_PROJECTOR, segments):
        return Place("projector")
    if _any(_ENCODER, segments) and not _any(_TOKENS, segments):
        return Place("encoder")
    match = _LAYER.search(tensor)
    if match:
        return Place("layers", int(match.group(1)), _part(match.group(2).split(".")))
    if _any(_NORM, segments):
        return Place("norms")
    if _any(_HEAD, segments):
        return Place("head")
    return Place("embeddings" if _any(_EMBEDDINGS, segments) else "other")


def _part(segments: list[str]) -> str:
    """Return the part of a layer that a tensor belongs to, from its name inside the layer."""
    modules = [segment for segment in segments if not _NORM.fullmatch(segment)]
    if _any(_MLP, modules):
        return "mlp"
    if _any(_MIXER, modules):
        return "mlp" if "mixer" in modules and _any(_MLP_LEAF, modules) else "attention"
    return "mlp" if _any(_MLP_LEAF, modules[:1]) else "rest"


def _any(pattern: re.Pattern[str], segments: list[str]) -> bool:
    return any(pattern.fullmatch(segment) for segment in segments)


@dataclass(frozen=True)
class Group:
    """A parsed group name: `first`..`last` layers (None: all of them), `part` (None: the whole layer)."""

    kind: str
    first: int | None = None
    last: int | None = None
    part: str | None = None

    def contains(self, where: Place) -> bool:
        """Say whether a tensor at `where` belongs to this group."""
        if self.kind == ALL:
            return True
        if self.kind != where.kind:
            return False
        if self.kind != "layers":
            return True
        assert where.layer is not None
        inside = self.first is None or (self.last is not None and self.first <= where.layer <= self.last)
        return inside and self.part in (None, where.part)


@lru_cache(maxsize=65536)
def parse_group(name: str) -> Group:
    """Parse a group name; `UsageError` if it is none."""
    if name == ALL or name in OUTSIDE:
        return Group(name)
    match = _GROUP.fullmatch(name)
    if not match:
        raise UsageError(
            f"unknown group {name!r}; groups are {ALL}, {', '.join(OUTSIDE)}, layers, layers.3, layers.0-2, "
            "each of the last three also with .attention, .mlp or .rest"
        )
    first, last, part = match.groups()
    if first is None:
        return Group("layers", part=part)
    if last is not None and int(last) < int(first):
        raise UsageError(f"group {name!r}: the last layer comes before the first; write layers.{last}-{first}")
    return Group("layers", int(first), int(last if last is not None else first), part)


def group_of(tensor: str, groups: Iterable[str]) -> str:
    """Return the one of `groups` that holds `tensor`: the named one, else `all`.

    Raises `UsageError` when two named groups hold it or none does.
    """
    where = place(tensor)
    named = [name for name in groups if name != ALL and parse_group(name).contains(where)]
    if len(named) > 1:
        raise UsageError(f"groups {named[0]!r} and {named[1]!r} both hold tensor {tensor!r}; groups must not overlap")
    if named:
        return named[0]
    if ALL in groups:
        return ALL
    raise UsageError(f"no group holds tensor {tensor!r}; name one that does, or add a value for 'all'")


def value_at(values: Mapping[str, T], tensor: str) -> T:
    """Return the value of the group that holds `tensor` (see `group_of`)."""
    if len(values) == 1 and ALL in values:
        return values[ALL]
    return values[_remembered_group(tensor, tuple(values))]


@lru_cache(maxsize=1 << 18)
def _remembered_group(tensor: str, groups: tuple[str, ...]) -> str:
    """`group_of`: the recipes of a search divide the model alike."""
    return group_of(tensor, groups)


def finest_group(tensor: str) -> str:
    """Return the finest group that holds a tensor: `layers.3.mlp`, or `embeddings`.

    Every group is a union of such groups.
    """
    where = place(tensor)
    return f"layers.{where.layer}.{where.part}" if where.part else where.kind


@dataclass(frozen=True)
class Layout:
    """The shape of a model as groups see it: its tensor names, in sorted order."""

    tensors: tuple[str, ...]

    @classmethod
    def of(cls, tensors: Iterable[str]) -> "Layout":
        """Make the layout of a model from its tensor names."""
        return cls(tuple(sorted(tensors)))

    @cached_property
    def outline(self) -> "Layout":
        """The layout of one tensor for each finest group: it has the same layers, and the same groups divide it."""
        return Layout.of({finest_group(tensor): tensor for tensor in self.tensors}.values())

    @property
    def layers(self) -> int:
        """The number of layers: highest layer index plus one, 0 if there are none."""
        indices = [where.layer for where in map(place, self.tensors) if where.layer is not None]
        return max(indices, default=-1) + 1

    def members(self, group: str) -> list[str]:
        """Return the tensors that `group` holds, taken by itself."""
        parsed = parse_group(group)
        return [name for name in self.tensors if parsed.contains(place(name))]

    def divide(self, granularity: str | int, *, split: bool = False, own: Sequence[str] = OUTSIDE) -> list[str]:
        """Divide the model into groups, in the order embeddings, layers, norms, head, encoder, projector, other.

        Args:
            granularity: "global" (all layers together), "layer" (every layer), or k (blocks of k layers, the last
                one shorter where k does not divide).
            split: divide each block further into attention, mlp and rest.
            own: which groups outside the layers are groups of their own; the rest of them share `all`.

        Returns group names; groups that would hold no tensor of this model are left out.
        """
        n = self.layers
        if granularity == "global":
            blocks = ["layers"]
        elif granularity == "layer":
            blocks = [f"layers.{i}" for i in range(n)]
        elif isinstance(granularity, int) and not isinstance(granularity, bool) and granularity >= 1:
            starts = range(0, n, granularity)
            ends = [min(start + granularity, n) - 1 for start in starts]
            blocks = [f"layers.{a}" if a == b else f"layers.{a}-{b}" for a, b in zip(starts, ends, strict=True)]
        else:
            raise UsageError(f"granularity {granularity!r}: write global, layer, or a number of layers >= 1")
        if granularity == "global" and not split and not own:
            return [ALL]
        if split:
            blocks = [f"{block}.{part}" for block in blocks for part in PARTS]
        for name in own:
            if name not in OUTSIDE:
                raise UsageError(f"{name!r} cannot be a group of its own; choose from {', '.join(OUTSIDE)}")
        before = [group for group in ("embeddings",) if group in own]
        after = [group for group in ("norms", "head", "encoder", "projector", "other") if group in own]
        ordered = [*before, *blocks, *after]
        held = {group: self.members(group) for group in ordered}
        groups = [group for group in ordered if held[group]]
        covered = {tensor for tensors in held.values() for tensor in tensors}
        return groups if len(covered) == len(self.tensors) else [*groups, ALL]
