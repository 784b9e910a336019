"""The model's chat template, as lm-eval applies it.

lm-eval's `HFLM` renders a chat with the template of its tokenizer. Here the same is done from the tokenizer alone, so
that prompts can be built before a model is loaded. One thing differs: a template that asks for today's date is told a
fixed one, or a search could not be resumed tomorrow with the same prompts. This file knows nothing about tasks.
"""

from datetime import datetime
from typing import Protocol

import jinja2
from transformers import PreTrainedTokenizerBase

from evomerge.errors import UsageError

#: What a template hears when it asks for the date: the one that Llama's own templates name where they know none.
TODAY = datetime(2024, 7, 26)
_FIELDS = "".join(f".replace('%{code}', '{TODAY.strftime('%' + code)}')" for code in "aAbBdjmyYHIMpS")
_CLOCK = "{%- macro strftime_now(format) %}{{ format" + _FIELDS + " }}{% endmacro -%}"  # in place of transformers' own

Message = dict[str, str]


class ChatTemplate(Protocol):
    """What renders a chat as one prompt. lm-eval's own language models do."""

    def apply_chat_template(self, chat_history: list[Message], add_generation_prompt: bool = True) -> str:
        """Return the prompt of a chat, messages of {role, content}.

        With `add_generation_prompt` it ends where the model's answer begins, else in the middle of the last message.
        """


class TokenizerChat:
    """The chat template of a tokenizer; a template that knows no system message gets the chat without it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def apply_chat_template(self, chat_history: list[Message], add_generation_prompt: bool = True) -> str:
        """Return the prompt of a chat; `UsageError` if the tokenizer has no template."""
        if not self._tokenizer.chat_template:
            raise UsageError("the model's tokenizer has no chat template; leave out chat_template")
        try:
            return self._render(chat_history, add_generation_prompt)
        except jinja2.exceptions.TemplateError:
            return self._render([m for m in chat_history if m["role"] != "system"], add_generation_prompt)

    def _render(self, chat: list[Message], add_generation_prompt: bool) -> str:
        template = str(self._tokenizer.get_chat_template())
        return str(
            self._tokenizer.apply_chat_template(
                chat,
                chat_template=_CLOCK + template if "strftime_now" in template else template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )


def chat_from(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
    """Return the chat template of a tokenizer."""
    return TokenizerChat(tokenizer)
