"""`evomerge evaluate`: score a model or a recipe on tasks."""

import argparse
import json
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, batch_size, pairs, print_next, write_file

EXAMPLES = """
evomerge evaluate zoo:math --tasks zoo_math,zoo_code --allow-code-execution
evomerge evaluate RUN_DIR/best/recipe.yaml --tasks zoo_math --split selection --limit 100
evomerge evaluate my-model --tasks gsm8k --backend vllm --dtype bfloat16 --out scores.json
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(commands, "evaluate", run, help="score a model or a recipe on tasks", examples=EXAMPLES)
    parser.add_argument("model", metavar="MODEL_OR_RECIPE", help="directory, hub id, zoo:NAME, or a recipe's .yaml")
    parser.add_argument("--tasks", required=True, help="task names, with commas between them, or paths of YAML files")
    parser.add_argument(
        "--split", default="report", choices=["search", "selection", "report"], help="which items; default: report"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="score the first N items of the split only")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write every item's prompt hash, answer and score"
    )
    parser.add_argument("--backend", default="transformers", choices=["transformers", "vllm"], help="what generates")
    parser.add_argument("--batch-size", default="auto", metavar="N", help="most prompts in a batch; default: auto")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of weights; default: float32"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; default: auto")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="TASK.SPLIT=FILE",
        help="read a task's data set split from a local file",
    )
    parser.add_argument(
        "--num-fewshot", type=int, metavar="N", help="examples in the prompt; default: as the task says"
    )
    parser.add_argument(
        "--max-gen-toks", type=int, metavar="N", help="longest answer; default: as the task says, or 512"
    )
    parser.add_argument("--apply-chat-template", action="store_true", help="prompts as chats of the model's template")
    parser.add_argument("--device-map", metavar="HOW", help="spread a large model: auto, balanced, sequential")
    parser.add_argument("--outcomes", metavar="DIR", help="keep outcomes there; what it has is not generated again")
    parser.add_argument("--allow-code-execution", action="store_true", help="run the code that the model writes")
    parser.add_argument(
        "--sandbox", default="landlock", metavar="LEVEL", help="lowest level that will do for that code"
    )


def run(options: argparse.Namespace) -> int:
    """Score, print a table, and write every item where asked to."""
    quiet()
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
        data=dict(pairs(options.data, "--data")),
        evaluation=Evaluation(
            backend=options.backend,
            batch_size=batch_size(options.batch_size),
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
        write_file(options.out, json.dumps(report, indent=1) + "\n")
    if options.model.endswith((".yaml", ".yml")):
        print_next((["evomerge", "merge", options.model, "my-model"], "this recipe's model, on the disk"))
    return 0
