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
_SETTINGS = (
    "generation_config.json",
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

    The tokenizer files are taken together, all from the one or all from the other.
    """
    tokens = source if has_tokenizer(source) else base
    for name in _TOKENIZER:
        if (tokens / name).is_file():
            shutil.copyfile(tokens / name, to / name)
    if (tokens / _TEMPLATES).is_dir():
        shutil.copytree(tokens / _TEMPLATES, to / _TEMPLATES)
    for name in _SETTINGS:
        settings = source / name if (source / name).is_file() else base / name
        if settings.is_file():
            shutil.copyfile(settings, to / name)
