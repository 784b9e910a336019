"""Tiny real checkpoints: a two-layer random Llama and fine-tunes of it, written by transformers."""

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LABELS = ("code", "math", "prose")
VOCABULARY = 96


def config(*, tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
    )


def write_family(
    root: Path, *, dtype: torch.dtype = torch.bfloat16, shard_bytes: int | None = None, tied: bool = False
) -> dict[str, Path]:
    """Write `base` and one expert a label below `root`; name -> directory."""
    generator = torch.Generator().manual_seed(11)
    model = LlamaForCausalLM(config(tied=tied))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    base = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    paths = {}
    for name in ("base", *LABELS):
        if name != "base":
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    parameter.copy_(base[key] + 0.01 * torch.randn(parameter.shape, generator=generator))
        paths[name] = root / name
        copy = LlamaForCausalLM(config(tied=tied))
        copy.load_state_dict(model.state_dict())
        limit = {} if shard_bytes is None else {"max_shard_size": shard_bytes}
        copy.to(dtype).save_pretrained(paths[name], **limit)
        tokenizer().save_pretrained(paths[name])
    return paths


def tokenizer(renamed: tuple[str, str] | None = None) -> PreTrainedTokenizerFast:
    vocabulary = {f"w{i}": i for i in range(VOCABULARY - 2)} | {"<unk>": VOCABULARY - 2, "<eos>": VOCABULARY - 1}
    if renamed:
        vocabulary[renamed[1]] = vocabulary.pop(renamed[0])
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", unk_token="<unk>")
    fast.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    return fast


def copy_of(path: Path, to: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(path, to)
    return to


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
