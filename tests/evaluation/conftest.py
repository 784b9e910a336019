"""A tiny random Llama with a tokenizer of its own, small tasks from local files, and the real data where they are at
hand."""

import json
import os
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evomerge.evaluation import TransformersBackend, load_model

WORDS = "Question: Answer: what is plus the sum of numbers 0 1 2 3 4 5 6 7 8 9 #### \n def return assert English Koro"

TASK_YAML = """
task: sums
dataset_path: json
output_type: generate_until
training_split: train
test_split: test
fewshot_split: train
num_fewshot: 2
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 12}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, regexes_to_ignore: ["(?s).*#### "]}
filter_list:
  - name: strict-match
    filter:
      - {function: regex, regex_pattern: "#### (-?[0-9]+)"}
      - {function: take_first}
  - name: flexible-extract
    filter:
      - {function: regex, group_select: -1, regex_pattern: "(-?[0-9]+)"}
      - {function: take_first}
"""


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """A 2-layer Llama with random weights, saved with a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def backend(model_dir) -> TransformersBackend:
    return TransformersBackend(*load_model(model_dir), batch_size=8)


@pytest.fixture(scope="session")
def sums(tmp_path_factory) -> dict:
    """The configuration of a 2-shot task on local files: 200 training items, 30 test items."""
    folder = tmp_path_factory.mktemp("sums")
    for split, first, count in (("train", 0, 200), ("test", 1000, 30)):
        rows = [
            {"question": f"what is {i} plus {i % 7}?", "answer": f"#### {i + i % 7}"}
            for i in range(first, first + count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.yaml").write_text(TASK_YAML)
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}
    return {"task": str(folder / "sums.yaml"), "data_files": files}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with gsm8k/ and mbpp/."""
    folder = os.environ.get("EVOMERGE_DATA")
    if not folder:
        pytest.skip("EVOMERGE_DATA does not point to a folder with gsm8k/ and mbpp/")
    return Path(folder)
