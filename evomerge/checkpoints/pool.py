"""The models of one merge: a base and its experts, proved to fit together before anything is computed.

Full models, LoRA adapters, other dtypes, tied heads and other numberings of added tokens are brought into one form
here: whoever merges sees the same names and shapes from every model. This file knows nothing about methods or recipes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from evomerge.checkpoints import agreement
from evomerge.checkpoints.adapter import Adapter
from evomerge.checkpoints.checkpoint import Checkpoint, is_adapter
from evomerge.checkpoints.companions import copy_companions, has_tokenizer
from evomerge.checkpoints.embeddings import Embeddings, Sources
from evomerge.checkpoints.finite import all_finite
from evomerge.checkpoints.model import Model
from evomerge.checkpoints.reference import resolve
from evomerge.checkpoints.source import TensorSource, read_all
from evomerge.checkpoints.vocabulary import CHOICES, VocabularyReport
from evomerge.errors import UsageError, nearest
from evomerge.recipes import Layout

SAME = "same"
_CHECK_THREADS = 2


class ModelPool:
    """A base and its experts; made by `open`.

    Attributes:
        base: the base checkpoint.
        experts: label -> model, in label order: checkpoints and LoRA adapters, as they are on the disk.
        references: label -> reference as given, `""` for the base.
        layout: the tensors that are merged. An output head that is tied to the embeddings is not one of them, whether
            its file holds a copy or not; neither are buffers (see `buffers.py`).
        config: the config.json of the merged model: the base's, with the merged number of tokens.
        vocabulary: whose tokens the merged model has; see `open`.
    """

    def __init__(
        self,
        base: Checkpoint,
        experts: Mapping[str, Model],
        references: Mapping[str, str],
        layout: Layout,
        sources: Sources,
        embeddings: Embeddings | None,
        vocabulary: str = SAME,
    ) -> None:
        self.base = base
        self.experts = dict(sorted(experts.items()))
        self.references = dict(references)
        self.layout = layout
        self.config = embeddings.config(base.config) if embeddings else dict(base.config)
        self._sources = sources
        self._embeddings = embeddings
        self.vocabulary = vocabulary

    @classmethod
    def open(
        cls, base: str, experts: Mapping[str, str], *, check_weights: bool = True, vocabulary: str = SAME
    ) -> "ModelPool":
        """Open a base and its experts and check that they merge.

        Args:
            base: reference of the base, a full model.
            experts: label -> reference, at least one; full models or LoRA adapters on the base.
            check_weights: also read every weight once, to refuse NaN and infinity.
            vocabulary: "same": tokenizers must agree; "base", "union", "intersection": added tokens may differ, and
                these become the merged model's (see `vocabulary.py`).

        Raises `UsageError` naming the model, the first difference and what to do.
        """
        if not experts:
            raise UsageError("no experts; name at least one as 'label: reference'")
        if vocabulary not in (SAME, *CHOICES):
            raise UsageError(f"vocabulary {vocabulary!r}: {nearest(vocabulary, (SAME, *CHOICES))}")
        with _about("base"):
            root = Checkpoint.open(resolve(base))
            names = agreement.merged_names(root)
        opened: dict[str, Model] = {}
        sources: Sources = {}
        for label, reference in sorted(experts.items()):
            with _about(f"expert {label!r}"):
                opened[label] = _open_expert(reference, root)
        for label, model in opened.items():
            with _about(f"expert {label!r} ({experts[label]})"):
                agreement.refuse_other_architecture(root, model)
                sources[label] = agreement.untied_heads(root, names, model)
                agreement.refuse_other_tensors(names, root, model, sources[label])
                if vocabulary == SAME:
                    agreement.refuse_other_tokenizer(root.path, model.path)
        embeddings = None if vocabulary == SAME else Embeddings.match(vocabulary, root, opened, sources)
        pool = cls(root, opened, {"": base, **experts}, Layout.of(names), sources, embeddings, vocabulary)
        for label in opened:
            with _about(f"expert {label!r} ({experts[label]})"):
                for name in names:
                    agreement.refuse_other_shape(name, pool.shape(name), pool.source(label, name).shape)
        if check_weights:
            pool.check_weights()
        return pool

    @property
    def vocabulary_report(self) -> VocabularyReport | None:
        """What became of the vocabularies; None with vocabulary "same"."""
        return self._embeddings.rows.report if self._embeddings else None

    def source(self, label: str, name: str) -> TensorSource:
        """Return a tensor of an expert (or of the base, label `""`) as the merge sees it, span by span."""
        replaced = self._sources.get(label, {}).get(name)
        return replaced if replaced is not None else self._model(label).source(name)

    def tensor(self, label: str, name: str) -> torch.Tensor:
        """Return all of `source(label, name)`, shaped: memory-mapped where it lies in a file as it is; read-only."""
        replaced = self._sources.get(label, {}).get(name)
        return read_all(replaced) if replaced is not None else self._model(label).tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a merged tensor."""
        return self.source("", name).shape

    @contextmanager
    def live_directory(self) -> Iterator[tuple[Path, bool]]:
        """Give a directory that a model can be loaded from into which merges fit, and whether it has weights.

        The base's own; where the vocabulary is another, a temporary one of config and tokenizer alone.
        """
        if self.vocabulary == "same":
            yield self.base.path, True
            return
        with TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(self.config), encoding="utf-8")
            self.save_tokenizer(folder)
            yield Path(folder), False

    def save_tokenizer(self, directory: str | Path, label: str = "") -> None:
        """Write the tokenizer of the merged model, with chat template, generation and image settings.

        Args:
            directory: where to; exists.
            label: the expert whose files to take; `""`: the base's. What its directory lacks comes from the base.

        Raises `UsageError` if that expert's tokenizer numbers tokens otherwise than the merged model does.
        """
        source = self._model(label).path
        if self._embeddings and label and has_tokenizer(source):
            if self._embeddings.numbers.get(label) != self._embeddings.rows.tokens:
                raise UsageError(
                    f"tokenizer of {label!r}: numbers tokens otherwise than the merged model; take the base's"
                )
            copy_companions(source, self.base.path, Path(directory))
            return
        copy_companions(source, self.base.path, Path(directory))
        if self._embeddings and self._embeddings.edit:
            self._embeddings.edit.apply(Path(directory))

    def check_weights(self, names: Sequence[str] | None = None) -> None:
        """Read every weight, or those of some tensors; `UsageError` at the first NaN or infinity, naming the tensor."""
        names = self.layout.tensors if names is None else names
        with ThreadPoolExecutor(_CHECK_THREADS) as executor:
            for label in ("", *self.experts):
                model = self._model(label)
                # what an adapter does not change is the base's, and has been read
                own = [name for name in names if not isinstance(model, Adapter) or name in model.changed]
                finite = executor.map(all_finite, (self.source(label, name) for name in own))
                for name, fine in zip(own, finite, strict=True):
                    if not fine:
                        executor.shutdown(cancel_futures=True)
                        what = f"expert {label!r}" if label else "base"
                        raise UsageError(
                            f"{what} ({self.references[label]}): tensor {name!r} holds NaN or infinity; "
                            "the file is damaged or its training failed, take another"
                        )

    def _model(self, label: str) -> Model:
        return self.experts[label] if label else self.base


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Have a `UsageError` say what it is about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None


def _open_expert(reference: str, base: Checkpoint) -> Model:
    path = resolve(reference)
    return Adapter.open(path, base) if is_adapter(path) else Checkpoint.open(path)
