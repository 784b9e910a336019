"""The command line: `evomerge search` hands over to Hydra, the rest are plain subcommands.

Exit status 0 on success, 2 for a wrong request and 1 for failed work, each with one line on standard error. This
file knows nothing about merging or scoring; it imports the rooms when a command needs them, so that `evomerge zoo`
is quick.
"""

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from evomerge import __version__
from evomerge.errors import EvomergeError, UsageError, WorkError, nearest

DESCRIPTION = """Find the best way to merge fine-tuned language models.

  evomerge search [HYDRA OVERRIDES]   run or resume a search; -m sweeps. Try: evomerge search experiment=quickstart
                                      (evomerge search --help lists the configuration groups)
"""


COMMANDS = ("search", "evaluate", "merge", "front", "export", "doctor", "import", "overlap", "zoo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["search"]:
            return _search(arguments[1:])
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise UsageError(f"unknown command {arguments[0]!r}; {nearest(arguments[0], COMMANDS)}")
        options = _parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except UsageError as error:
        return _refuse(str(error), 2)
    except EvomergeError as error:
        return _refuse(str(error), 1)
    except KeyboardInterrupt:
        return _refuse("interrupted; what was recorded is safe, the same command goes on from there", 130)
    except BrokenPipeError:  # `evomerge front RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}", 1)


def _refuse(message: str, status: int) -> int:
    print(f"evomerge: {' '.join(message.split())}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line, like all others."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="evomerge", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"evomerge {__version__}")
    commands = parser.add_subparsers(title="other commands", required=True, metavar="COMMAND", parser_class=_Parser)

    evaluate = commands.add_parser("evaluate", help="score a model or a recipe on tasks")
    evaluate.add_argument("model", metavar="MODEL_OR_RECIPE", help="directory, hub id, zoo:NAME, or a recipe's .yaml")
    evaluate.add_argument("--tasks", required=True, help="task names, with commas between them, or paths of YAML files")
    evaluate.add_argument("--split", default="report", choices=["search", "selection", "report"])
    evaluate.add_argument("--limit", type=int, metavar="N", help="score the first N items of the split only")
    evaluate.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write every item's prompt hash, answer and score"
    )
    evaluate.add_argument("--backend", default="transformers", choices=["transformers", "vllm"])
    evaluate.add_argument("--batch-size", default="auto", metavar="N", help="most prompts in a batch; default: auto")
    evaluate.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    evaluate.add_argument("--device", default="auto")
    evaluate.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="TASK.SPLIT=FILE",
        help="read a task's data set split from a local file",
    )
    evaluate.add_argument(
        "--num-fewshot", type=int, metavar="N", help="examples in the prompt; default: as the task says"
    )
    evaluate.add_argument(
        "--max-gen-toks", type=int, metavar="N", help="longest answer; default: as the task says, or 512"
    )
    evaluate.add_argument("--apply-chat-template", action="store_true", help="prompts as chats of the model's template")
    evaluate.add_argument("--device-map", metavar="HOW", help="spread a large model: auto, balanced, sequential")
    evaluate.add_argument("--outcomes", metavar="DIR", help="keep outcomes there; what it has is not generated again")
    evaluate.add_argument("--allow-code-execution", action="store_true", help="run the code that the model writes")
    evaluate.add_argument(
        "--sandbox", default="landlock", metavar="LEVEL", help="lowest level that will do for that code"
    )
    evaluate.set_defaults(command=_evaluate)

    merge = commands.add_parser("merge", help="write the model that a recipe describes")
    merge.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    merge.add_argument("out", type=Path, metavar="OUT_DIR", nargs="?")
    merge.add_argument(
        "--mergekit", type=Path, metavar="FILE", help="write a YAML for mergekit-yaml that builds the same"
    )
    merge.add_argument("--threads", type=int, default=0, help="0: as many as there are processors")
    merge.set_defaults(command=_merge)

    front = commands.add_parser("front", help="show the front of a run: candidates that no other beats on every task")
    front.add_argument("run", type=Path, metavar="RUN_DIR")
    front.add_argument("--prefer", action="append", default=[], metavar="TASK=WEIGHT", help="order by weighted scores")
    front.add_argument("--json", action="store_true", help="as JSON")
    front.add_argument(
        "--predicted", action="store_true", help="the front that the run's surrogates predict, without scoring anything"
    )
    front.add_argument(
        "--recipe", type=Path, metavar="FILE", help="with --predicted: write the best one's recipe there"
    )
    front.set_defaults(command=_front)

    export = commands.add_parser("export", help="write the model of a run's candidate, checked bit for bit")
    export.add_argument("run", type=Path, metavar="RUN_DIR")
    export.add_argument("out", type=Path, metavar="OUT_DIR")
    export.add_argument(
        "--pick", default="best", help="best (on the selection split), knee (of the front), or a number"
    )
    export.add_argument(
        "--prefer", action="append", default=[], metavar="TASK=WEIGHT", help="the front's best by weights"
    )
    export.add_argument("--threads", type=int, default=0, help="0: as many as there are processors")
    export.set_defaults(command=_export)

    doctor = commands.add_parser("doctor", help="do these models merge? what will go wrong?")
    doctor.add_argument(
        "models", nargs="+", metavar="MODEL", help="the base, then the experts: directories, hub ids, zoo:NAME"
    )
    doctor.add_argument("--base", metavar="MODEL", help="the base; all other models are experts")
    doctor.add_argument("--quick", action="store_true", help="measure a sample of the weights only")
    doctor.add_argument("--json", action="store_true", help="everything as JSON")
    doctor.add_argument("--threads", type=int, default=0, help="0: as many as there are processors")
    doctor.set_defaults(command=_doctor)

    import_ = commands.add_parser(
        "import", help="turn a mergekit YAML into a recipe, a mergekit-evolve one into an experiment"
    )
    import_.add_argument("file", type=Path, metavar="FILE")
    import_.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to standard output")
    import_.add_argument("--base", metavar="MODEL", help="the base, where the file names none")
    import_.set_defaults(command=_import)

    overlap = commands.add_parser("overlap", help="do texts (training data, say) contain a task's items?")
    overlap.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text, or JSON Lines")
    overlap.add_argument("--tasks", required=True, help="task names, with commas between them, or paths of YAML files")
    overlap.add_argument(
        "--ngram", type=int, default=13, metavar="N", help="words that must occur together; default 13"
    )
    overlap.add_argument("--data", action="append", default=[], metavar="TASK.SPLIT=FILE")
    overlap.add_argument("--json", action="store_true", help="as JSON")
    overlap.set_defaults(command=_overlap)

    zoo = commands.add_parser("zoo", help="list the tiny models that ship with evomerge, or print one's path")
    zoo.add_argument("name", nargs="?")
    zoo.set_defaults(command=_zoo)
    return parser


def _quiet() -> None:
    """Keep the libraries off the terminal: their bars, warnings and logs are not for our users."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    for name in ("transformers", "datasets", "lm_eval", "accelerate", "huggingface_hub", "hydra", "optuna", "cma"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


# ---- search ----------------------------------------------------------------------------------------------------------


def _search(arguments: list[str]) -> int:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of being printed with a traceback
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from evomerge.config import conf_dir, explain_override

    refused: list[EvomergeError | OSError] = []
    here = os.getpid()

    def job(composed: DictConfig) -> float | None:
        try:
            return run(composed)
        except (EvomergeError, OSError) as error:
            if os.getpid() != here:
                raise  # a launcher's process: the launcher has to know
            refused.append(error)  # Hydra would print a line of its own; and other jobs of a sweep go on
            return None

    def run(composed: DictConfig) -> float:
        from evomerge.search.config import SearchConfig
        from evomerge.search.start import run_search

        data = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        running = HydraConfig.get()
        in_sweep = running.mode == RunMode.MULTIRUN
        directory = Path(running.runtime.output_dir)
        _quiet()
        return run_search(SearchConfig.from_dict(data), data, directory, open_report=not in_sweep)

    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    rest = [argument for argument in arguments if argument not in flags]
    sys.argv = ["evomerge search", *flags, *rest]  # Hydra wants flags in front of overrides
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain_override(error)) from None
    from evomerge.search.sweep import finished_sweeps, report_winner

    if refused:
        raise refused[0]
    for sweep in finished_sweeps:
        report_winner(sweep)
    return 0


# ---- the other commands ----------------------------------------------------------------------------------------------


def _evaluate(options: argparse.Namespace) -> int:
    _quiet()
    from evomerge.search.config import Evaluation
    from evomerge.search.evaluate import evaluate

    wanted = {
        "num_fewshot": options.num_fewshot,
        "max_gen_toks": options.max_gen_toks,
        "chat_template": options.apply_chat_template or None,
    }
    report = evaluate(
        options.model,
        tasks=options.tasks.split(","),
        split=options.split,
        limit=options.limit,
        changes={key: value for key, value in wanted.items() if value is not None},
        data=dict(_pairs(options.data, "--data")),
        evaluation=Evaluation(
            backend=options.backend,
            batch_size=_batch_size(options.batch_size),
            dtype=options.dtype,
            device=options.device,
            device_map=options.device_map,
            offload_folder=None,
            vllm={},
            split_seed=0,
            allow_code_execution=options.allow_code_execution,
            sandbox=options.sandbox,
            outcomes=options.outcomes,
        ),
    )
    if options.out:
        try:
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise WorkError(f"{options.out}: cannot be written: {error.strerror}") from None
    return 0


def _merge(options: argparse.Namespace) -> int:
    from evomerge.merging import export
    from evomerge.recipes import Recipe
    from evomerge.reporting.card import card

    if options.out is None and options.mergekit is None:
        raise UsageError("merge: give OUT_DIR, or --mergekit FILE")
    recipe = Recipe.load(options.recipe)
    if options.mergekit is not None:
        from evomerge.mergekit import export_file

        _print_notes(export_file(recipe, options.mergekit))
    if options.out is None:
        return 0
    report = export(recipe, options.out, threads=_threads(options.threads), card=card(recipe))
    print(f"{options.out}: {len(report.files)} files, fingerprint {report.fingerprint}")
    return 0


def _import(options: argparse.Namespace) -> int:
    _quiet()
    from evomerge.mergekit import import_file

    text, notes = import_file(options.file, base=options.base)
    _print_notes(notes)
    if options.out is None:
        print(text, end="")
        return 0
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkError(f"{options.out}: cannot be written: {error.strerror}") from None
    return 0


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _front(options: argparse.Namespace) -> int:
    from evomerge.search.show import front_json, front_table

    weights = _weights(options.prefer)
    if options.recipe and not options.predicted:
        raise UsageError("--recipe goes with --predicted; recipes of scored candidates are in the run's recipes/")
    if options.predicted:
        _quiet()
        from evomerge.search.predicted import predicted_json, predicted_table
        from evomerge.search.start import write_predicted

        if options.json:
            print(json.dumps(predicted_json(options.run, weights), indent=1))
        else:
            predicted_table(options.run, weights)
        if options.recipe:
            write_predicted(options.run, weights, options.recipe)
    elif options.json:
        print(json.dumps(front_json(options.run, weights), indent=1))
    else:
        front_table(options.run, weights)
    return 0


def _export(options: argparse.Namespace) -> int:
    _quiet()
    from evomerge.search.export import export_trial

    if options.prefer and options.pick != "best":
        raise UsageError("--pick and --prefer exclude each other; give one")
    report = export_trial(
        options.run, options.out, pick=options.pick, prefer=_weights(options.prefer), threads=_threads(options.threads)
    )
    print(f"{options.out}: {len(report.files)} files, fingerprint {report.fingerprint}, as it was scored")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from rich.console import Console

    from evomerge.doctor import diagnose
    from evomerge.doctor.text import print_diagnosis

    base, *experts = options.models if options.base is None else [options.base, *options.models]
    with Console(stderr=True).status("reading") as status:  # shows nothing where stderr is no terminal
        diagnosis = diagnose(
            base,
            experts,
            quick=options.quick,
            threads=_threads(options.threads),
            progress=lambda share: status.update(f"reading weights: {100 * share:.0f} %"),
        )
    if options.json:
        print(json.dumps(diagnosis.to_dict(), indent=1, allow_nan=False))
    else:
        print_diagnosis(diagnosis)
    return 0 if diagnosis.merges else 1


def _overlap(options: argparse.Namespace) -> int:
    _quiet()
    from evomerge.evaluation import find_task_config, load_tasks
    from evomerge.evaluation.overlap import overlap, print_overlap

    names = options.tasks.split(",")
    tasks = load_tasks(
        {name: keys for task in names for name, keys in find_task_config(task).items()},
        data=dict(_pairs(options.data, "--data")),
    )
    found = overlap(tasks, options.files, n=options.ngram)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_overlap(found)
    return 0


def _zoo(options: argparse.Namespace) -> int:
    from evomerge.zoo import MODELS, model_path

    if options.name:
        print(model_path(options.name))
    else:
        for name, description in MODELS.items():
            print(f"zoo:{name:<10} {description}")
    return 0


def _pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    for text, (key, _, value) in zip(texts, pairs, strict=True):
        if not key or not value:
            raise UsageError(f"{option} {text!r}: write NAME=VALUE")
    return [(key, value) for key, _, value in pairs]


def _weights(texts: Sequence[str]) -> Mapping[str, float]:
    weights: dict[str, float] = {}
    for key, value in _pairs(texts, "--prefer"):
        try:
            weights[key] = float(value)
        except ValueError:
            raise UsageError(f"--prefer {key}={value}: the weight is not a number") from None
        if not 0 <= weights[key] < float("inf"):
            raise UsageError(f"--prefer {key}={value}: the weight must be a finite number >= 0")
    return weights


def _batch_size(text: str) -> int | str:
    if text != "auto" and (not text.isdigit() or int(text) < 1):
        raise UsageError(f"--batch-size {text}: must be auto, or 1 or more")
    return text if text == "auto" else int(text)


def _threads(number: int) -> int:
    if number < 0:
        raise UsageError(f"--threads {number}: must be 0 or more")
    return number or len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
