"""The small files beside a model's weights: tokenizer, chat template, generation and image settings.

This file copies them, and knows nothing about what is in them.
"""

import shutil
from pathlib import Path

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_GENERATION = "generation_config.json"
_SETTINGS = (
    _GENERATION,
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
_TEMPLATES = "additional_chat_templates"


def has_tokenizer(directory: Path) -> bool:
    """Say whether a directory holds a tokenizer (a chat template alone is none)."""
    return any((directory / name).is_file() for name in _VOCABULARIES)


def copy_companions(source: Path, base: Path, to: Path) -> None:
    """Copy the companions of a model; what a directory of weights alone (an adapter's, say) lacks comes from its base.

    The tokenizer files are taken together, all from the one or all from the other. A whole model with a tokenizer of
    its own never gets the base's generation settings: these name the base's end of a turn.
    """
    tokens = source if has_tokenizer(source) else base
    whole = tokens == source and (source / "config.json").is_file()
    for name in _TOKENIZER:
        if (tokens / name).is_file():
            shutil.copyfile(tokens / name, to / name)
    if (tokens / _TEMPLATES).is_dir():
        shutil.copytree(tokens / _TEMPLATES, to / _TEMPLATES)
    for name in _SETTINGS:
        mine = (source / name).is_file() or (whole and name == _GENERATION)
        settings = (source if mine else base) / name
        if settings.is_file():
            shutil.copyfile(settings, to / name)
