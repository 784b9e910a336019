"""The merged model's tokenizer where it is not the base's: the base's files with added tokens appended or removed.

Only added tokens change, so normaliser, core vocabulary and merge rules stay as they are. The tokenizers library
numbers added tokens without gaps; where a removed token would leave one, a special token that no text contains takes
its place. This file knows nothing about weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from evomerge.checkpoints.tokenizer import TOKENIZER, Tokens
from evomerge.errors import UsageError

_LISTS = ("additional_special_tokens", "extra_special_tokens")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@dataclass(frozen=True)
class TokenizerEdit:
    """What to change in a base's tokenizer.

    Attributes:
        base: the base's tokenizer.
        appended: entries of tokenizer.json's added_tokens, with their new numbers.
        removed: token -> number.
    """

    base: Tokens
    appended: tuple[Mapping[str, Any], ...]
    removed: Mapping[str, int]

    def data(self) -> dict[str, Any]:
        """Return the edited tokenizer.json."""
        kept = [t for t in self.base.data.get("added_tokens") or [] if t["content"] not in self.removed]
        entries = [*kept, *(dict(entry) for entry in self.appended)]
        last = max((entry["id"] for entry in entries), default=-1)
        gaps = [{"id": number, "content": _gap(number), **_PLAIN} for number in self.removed.values() if number < last]
        return {**self.base.data, "added_tokens": sorted(entries + gaps, key=lambda entry: entry["id"])}

    def check(self, tokens: Mapping[str, int]) -> None:
        """See that the tokenizers library numbers the tokens as the merged model does; `UsageError` if not."""
        try:
            edited = Tokenizer.from_str(json.dumps(self.data()))
        except Exception as error:  # tokenizers raises Exception itself
            reason = " ".join(str(error).split())
            raise UsageError(f"{self.base.path}: cannot be edited ({reason}); take vocabulary base") from None
        for token, number in tokens.items():
            if edited.token_to_id(token) != number:
                raise UsageError(
                    f"{self.base.path}: token {token!r} would get number {edited.token_to_id(token)}, not {number}, "
                    "since its numbers have gaps; take vocabulary base"
                )

    def apply(self, directory: Path) -> None:
        """Edit a copy of the base's tokenizer files."""
        _write(directory / TOKENIZER, self.data())
        for name in _SETTINGS:
            settings = _read(directory / name)
            if isinstance(settings, dict):
                _write(directory / name, self._settings(settings))
        listed = directory / "added_tokens.json"
        if listed.is_file():
            _write(listed, {entry["content"]: entry["id"] for entry in self.data()["added_tokens"]})

    def _settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        settings = dict(settings)
        for key in _LISTS:
            if isinstance(settings.get(key), list):
                settings[key] = [token for token in settings[key] if _content(token) not in self.removed]
            elif isinstance(settings.get(key), dict):
                settings[key] = {k: token for k, token in settings[key].items() if _content(token) not in self.removed}
        if "added_tokens_decoder" in settings:
            settings["added_tokens_decoder"] = {
                str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
                for entry in self.data()["added_tokens"]
            }
        return settings


def removable_tokens(base: Tokens, config: Mapping[str, Any]) -> frozenset[str]:
    """Return the added tokens that nothing names: neither a setting (eos, pad, image...) nor what is put around a text.

    Args:
        base: the base's tokenizer.
        config: its config.json.
    """
    directory = base.path.parent
    texts = {token for token in base.added if token in base.core}
    numbers: set[int] = set()
    files = (*_SETTINGS, "generation_config.json")
    for settings in (config, config.get("text_config"), *(_read(directory / name) for name in files)):
        for key, value in (settings if isinstance(settings, dict) else {}).items():
            if key.endswith("_token") and _content(value):
                texts.add(_content(value))
            elif key.endswith(("_token_id", "_token_index")):
                numbers |= {n for n in (value if isinstance(value, list) else [value]) if type(n) is int}
    wrapping = json.dumps([base.data.get("post_processor"), base.data.get("padding")])
    return frozenset(
        token
        for token, number in base.added.items()
        if token not in texts and number not in numbers and json.dumps(token) not in wrapping
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: cannot be read as JSON") from None


def _gap(number: int) -> str:
    return f"<|removed_{number}|>"


def _content(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
