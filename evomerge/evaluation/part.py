"""One task of lm-eval inside an `EvalTask`: its documents divided into splits, and its prompts frozen.

Splits. Every item has a place in [0, 1), a hash of the split seed, the lm-eval task's name and the item's id. A
dataset split that feeds several of search, selection and report is divided between them by that place, in equal
parts.

Prompts. lm-eval draws few-shot examples from one generator in the order of the documents, so that a document's prompt
depends on which others are scored. Here a prompt is a function of its item alone:
- on the report split, where it is fed by the data that lm-eval itself evaluates on, it is exactly the prompt of
  lm-eval's command line with its default seed: the draws are made once, in document order, for all documents;
- elsewhere the examples are drawn by a generator seeded with the item's hash, from a pool of items that are never
  scored: the task's few-shot split, or, if search or selection use that split too, the items of it whose place is
  below 0.05 (more, where those are fewer than the examples of a prompt), which are then left out of all splits.

This file knows nothing about models, and nothing about scores.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from evomerge.errors import EvomergeError, UsageError, nearest
from evomerge.evaluation.chat import ChatTemplate
from evomerge.evaluation.metrics import one_line
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.spec import TaskSpec
from evomerge.evaluation.types import SPLITS, Split

POOL_SHARE = 0.05  # of a dataset split that is both scored and a source of examples
HARNESS_SEED = 1234  # of lm-eval's few-shot draws

Doc = dict[str, Any]


class Part:
    """One task of lm-eval, its items and prompts.

    Args:
        task: lm-eval's task object.
        spec: what the user wrote.
        where: how errors name it.
        split_seed: seed of the division of items.
        chat: renders chats; needed if the spec asks for a chat template.

    Attributes:
        task: lm-eval's task object.
        divided: split -> (place, item id) of its items, by place; an id is `<dataset split>:<index>`.
        reported_on: the dataset split that lm-eval evaluates on.

    Raises `UsageError` for anything in the spec that the task does not have, and for a search on test data.
    """

    def __init__(
        self, task: ConfigurableTask, spec: TaskSpec, *, where: str, split_seed: int, chat: ChatTemplate | None
    ) -> None:
        self.task, self._spec, self._where, self._seed, self._chat = task, spec, where, split_seed, chat
        config = task.config
        options = config.generation_kwargs or {}
        sample = options.get("do_sample")
        if sample or (sample is None and float(options.get("temperature") or 0) > 0) or config.repeats != 1:
            raise UsageError(f"{where}: it samples answers; only greedy generation, once an item, can be scored")
        if spec.chat_template and chat is None:
            raise UsageError(f"{where}: chat_template needs a model whose tokenizer has one")
        self._shots = int(config.num_fewshot or 0)
        self.reported_on = str(config.test_split or config.validation_split)
        self._sources = self._find_sources()
        self._pool_split = self._find_pool()
        self._reserves = self._pool_split in {*self._sources["search"], *self._sources["selection"]}
        self._processed: dict[str, Sequence[Doc]] = {}

    # -- items ---------------------------------------------------------------------------------------------------------

    def require(self, split: Split) -> None:
        """Raise `UsageError` if no data feed a split."""
        if self._sources[split]:
            return
        if set(self.task.dataset) <= {self.reported_on}:
            raise UsageError(
                f"{self._where}: it has no data but {self.reported_on!r}, which it is reported on, and a model chosen "
                f"on its test questions proves nothing about new ones; name other data with splits.{split}, or write "
                "search_on_test_data: true to divide them between search, selection and report"
            )
        others = sorted(set(self.task.dataset) - ({self.reported_on} if split != "report" else set()))
        raise UsageError(
            f"{self._where}: no data are named for the {split} split; set splits.{split} to one of {', '.join(others)}"
        )

    @cached_property
    def divided(self) -> dict[Split, list[tuple[float, str]]]:
        """Every split's items, with their places, by place."""
        result: dict[Split, list[tuple[float, str]]] = {split: [] for split in SPLITS}
        for source in dict.fromkeys(source for split in SPLITS for source in self._sources[split]):
            sharers = [split for split in SPLITS if source in self._sources[split]]
            reserved = self._reserved if source == self._pool_split else 0.0
            for index in range(len(self.docs(source))):
                item = f"{source}:{index}"
                place = self._place(item)
                if place >= reserved:
                    share = (place - reserved) / (1 - reserved)
                    result[sharers[int(share * len(sharers))]].append((place, item))
        return {split: sorted(rows) for split, rows in result.items()}

    def file_order(self, item: str) -> tuple[int, int]:
        """Return what sorts items in the order of the data files."""
        source, _, index = item.rpartition(":")
        return list(self.task.dataset).index(source), int(index)

    @property
    def request_type(self) -> str:
        """The type of lm-eval's requests to the model."""
        kind = str(self.task.config.output_type)
        return "loglikelihood" if kind == "multiple_choice" else kind

    @property
    def filters(self) -> list[str]:
        """The names of the task's filters."""
        return [ensemble.name for ensemble in self.task._filters]

    @cached_property
    def scoring(self) -> list[Any]:
        """What shapes a score besides metric and answer: settings, functions, the contents of local data files."""
        config = self.task.config
        settings = [config.filter_list, config.metric_list, config.doc_to_target, config.doc_to_choice]
        files = (config.dataset_kwargs or {}).get("data_files")
        return [*settings, config.process_results, _contents(files)]

    def docs(self, source: str) -> Sequence[Doc]:
        """Return the documents of a dataset split as the task sees them."""
        if source not in self._processed:
            process = self.task.config.process_docs
            rows = self.task.dataset[source]
            with undisturbed():
                self._processed[source] = process(rows) if process is not None else rows
        return self._processed[source]

    def _place(self, item: str) -> float:
        return int.from_bytes(self._hash(item)[:6]) / 2**48

    def _hash(self, item: str) -> bytes:
        return hashlib.sha256(f"{self._seed}/{self.task.config.task}/{item}".encode()).digest()

    def _doc(self, item: str) -> Doc:
        source, _, index = item.rpartition(":")
        if source not in self.task.dataset or not index.isdigit() or int(index) >= len(self.docs(source)):
            raise UsageError(f"{self._where}: there is no item {item!r}")
        return dict(self.docs(source)[int(index)])

    def _find_sources(self) -> dict[Split, tuple[str, ...]]:
        """Split -> the dataset splits that feed it."""
        config, chosen = self.task.config, dict(self._spec.splits)
        known = list(self.task.dataset)
        if not chosen:
            others = tuple(s for s in (config.training_split, config.validation_split) if s and s != self.reported_on)
            if not others and self._spec.search_on_test_data:
                others = (self.reported_on,)
            chosen = {"search": others, "selection": others, "report": (self.reported_on,)}
        elif self._spec.search_on_test_data and not chosen.keys() & {"search", "selection"}:
            chosen |= {"search": (self.reported_on,), "selection": (self.reported_on,)}
        for split, sources in chosen.items():
            for source in sources:
                if source not in known:
                    raise UsageError(
                        f"{self._where}, splits.{split}: no dataset split {source!r}; {nearest(source, known)}"
                    )
            if split != "report" and self.reported_on in sources and not self._spec.search_on_test_data:
                raise UsageError(
                    f"{self._where}, splits.{split}: {self.reported_on!r} is what the task is reported on, and a model "
                    "chosen on its test questions proves nothing about new ones; name other data, or write "
                    "search_on_test_data: true if you mean it"
                )
        return {split: tuple(chosen.get(split, ())) for split in SPLITS}

    # -- prompts -------------------------------------------------------------------------------------------------------

    def requests(self, item: str) -> list[Instance]:
        """Build the requests of an item, in lm-eval's order: the same ones each time."""
        doc = self._doc(item)
        try:
            return self._build(item, doc)
        except EvomergeError as error:
            raise type(error)(f"{self._where}: {error}") from None
        except Exception as error:
            raise UsageError(f"{self._where}: item {item} has no prompt: {one_line(error)}") from None

    def text(self, item: str) -> str:
        """Return an item's own text: its part of the prompt, without instructions, examples and chat template.

        Where that is empty (perplexities), the text that is scored.
        """
        doc = self._doc(item)
        with undisturbed():
            text = self.task.doc_to_text(doc)
            if isinstance(text, int):  # the right one of several prompts
                text = self.task.doc_to_choice(doc)[text]
            return str(text or self.task.doc_to_target(doc))

    def target(self, item: str) -> str:
        """Return an item's right answer as text; of several the first."""
        doc = self._doc(item)
        with undisturbed():
            target = self.task.doc_to_target(doc)
            if isinstance(target, list | tuple):
                target = target[0] if target else ""
            if isinstance(target, int) and self.task.config.doc_to_choice is not None:
                target = self.task.doc_to_choice(doc)[target]
            return str(target)

    def _build(self, item: str, doc: Doc) -> list[Instance]:
        """Build requests as lm-eval's `build_all_requests` does, with our examples."""
        task, spec = self.task, self._spec
        chat: dict[str, Any] = {}
        if spec.chat_template:
            assert self._chat is not None
            chat = {"apply_chat_template": True, "chat_template": self._chat.apply_chat_template}
        if self._shots:
            drawn, task.sampler = task.sampler, _Given(self._examples(item, doc))
        try:
            context = task.fewshot_context(
                doc,
                num_fewshot=self._shots,
                system_instruction=spec.system_instruction,
                fewshot_as_multiturn=spec.chat_template and spec.fewshot_as_multiturn is not False,
                gen_prefix=task.doc_to_prefix(doc),
                **chat,
            )
        finally:
            if self._shots:
                task.sampler = drawn
        index = int(item.rpartition(":")[2])
        made = task.construct_requests(doc=doc, ctx=context, metadata=(task.config.task, index, 1), **chat)
        return made if isinstance(made, list) else [made]

    def _examples(self, item: str, doc: Doc) -> list[Doc]:
        """The few-shot examples in the prompt of an item."""
        source, _, index = item.rpartition(":")
        if source == self.reported_on and item in self._report_items:
            return self._harness_examples[int(index)]
        others = [other for other in self._pool if other != doc]
        pool = others if len(others) >= self._shots else self._pool  # lm-eval, too, keeps a copy of the question then
        sampler = type(self.task.sampler)(pool, rnd=int.from_bytes(self._hash(f"examples/{item}")[:8]))
        return list(sampler.sample(n=self._shots))

    @cached_property
    def _report_items(self) -> frozenset[str]:
        return frozenset(item for _, item in self.divided["report"])

    @cached_property
    def _harness_examples(self) -> list[list[Doc]]:
        """The examples that lm-eval's command line draws, document by document."""
        task = self.task
        task.set_fewshot_seed(HARNESS_SEED)
        same = task.fewshot_cfg.split == task.config.test_split
        return [list(task.sampler.sample(n=self._shots, eval_doc=doc if same else None)) for doc in task.eval_docs]

    @cached_property
    def _pool(self) -> list[Doc]:
        """The items that serve as examples outside the harness's own draws."""
        if self._pool_split is None or (not self._reserves and self._spec.fewshot is None):
            return list(self.task.sampler.df)
        docs = self.docs(self._pool_split)
        limit = self._reserved if self._reserves else 1.0
        return [dict(docs[i]) for i in range(len(docs)) if self._place(f"{self._pool_split}:{i}") < limit]

    @cached_property
    def _reserved(self) -> float:
        """The place below which the items of the pool's split are never scored: 0.05, of few items what it takes."""
        if not self._reserves:
            return 0.0
        split = str(self._pool_split)
        places = sorted(self._place(f"{split}:{index}") for index in range(len(self.docs(split))))
        return max(POOL_SHARE, places[self._shots]) if self._shots < len(places) else 1.0

    def _find_pool(self) -> str | None:
        """The dataset split that examples come from; None if there are none, or fixed ones."""
        if not self._shots:
            return None
        task, config = self.task, self.task.config
        if not hasattr(task, "sampler"):
            raise UsageError(f"{self._where}: num_fewshot is {self._shots}, but the task has no examples")
        split = self._spec.fewshot or task.fewshot_cfg.split
        if split is None and task.fewshot_cfg.samples is None:
            split = config.training_split or config.validation_split or config.test_split
        if split is not None and split not in self.task.dataset:
            raise UsageError(f"{self._where}, fewshot: no dataset split {split!r}; {nearest(split, self.task.dataset)}")
        return split


def _contents(files: Any) -> Any:
    """Hash the local files among data files, which may be a path, a list or a mapping of them."""
    if isinstance(files, Mapping):
        return {key: _contents(value) for key, value in files.items()}
    if isinstance(files, list | tuple):
        return [_contents(value) for value in files]
    path = Path(str(files)).expanduser()
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else files


class _Given:
    """In the place of lm-eval's sampler: the examples that were chosen before."""

    def __init__(self, examples: list[Doc]) -> None:
        self._examples = examples

    def sample(self, n: int, eval_doc: Doc | None = None) -> list[Doc]:
        assert n == len(self._examples)
        return self._examples
