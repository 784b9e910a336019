"""Scoring models on tasks: lm-eval's task objects with frozen prompts, generation, the code sandbox, the outcome store.

The names below are imported on first use, since lm-eval and transformers take seconds and many commands need neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evomerge.evaluation.backend import TransformersBackend, load_model
    from evomerge.evaluation.chat import ChatTemplate, chat_from
    from evomerge.evaluation.evaluator import Backend, Evaluator
    from evomerge.evaluation.health import Gain, Health, explained, health_of
    from evomerge.evaluation.sandbox import Sandbox, Verdict
    from evomerge.evaluation.spec import TaskSpec
    from evomerge.evaluation.store import OutcomeStore
    from evomerge.evaluation.tasks import EvalTask, find_task_config, load_tasks
    from evomerge.evaluation.types import SPLITS, Generation, Likelihood, Outcome, Response, Split

__all__ = [
    "SPLITS",
    "Backend",
    "ChatTemplate",
    "EvalTask",
    "Evaluator",
    "Gain",
    "Generation",
    "Health",
    "Likelihood",
    "Outcome",
    "OutcomeStore",
    "Response",
    "Sandbox",
    "Split",
    "TaskSpec",
    "TransformersBackend",
    "Verdict",
    "chat_from",
    "explained",
    "find_task_config",
    "health_of",
    "load_model",
    "load_tasks",
]

_HOMES = {
    "backend": ("TransformersBackend", "load_model"),
    "chat": ("ChatTemplate", "chat_from"),
    "evaluator": ("Backend", "Evaluator"),
    "health": ("Gain", "Health", "explained", "health_of"),
    "sandbox": ("Sandbox", "Verdict"),
    "spec": ("TaskSpec",),
    "store": ("OutcomeStore",),
    "tasks": ("EvalTask", "find_task_config", "load_tasks"),
    "types": ("SPLITS", "Generation", "Likelihood", "Outcome", "Response", "Split"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
