import jinja2
import pytest
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from evomerge.errors import UsageError
from evomerge.evaluation import chat_from, load_model
from evomerge.evaluation.quiet import undisturbed

PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + PLAIN
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


@pytest.mark.parametrize("template", [PLAIN, NO_SYSTEM])
@pytest.mark.parametrize("answering", [True, False])
def test_the_same_as_lm_evals_model(model_dir, template, answering):
    model, tokenizer = load_model(model_dir)
    tokenizer.chat_template = template
    with undisturbed():
        theirs = HFLM(pretrained=model, tokenizer=tokenizer).apply_chat_template(CHAT, answering)
    assert chat_from(tokenizer).apply_chat_template(CHAT, answering) == theirs
    assert theirs.endswith("<bot>" if answering else "Why?")
    assert ("brief" in theirs) == (template == PLAIN)


def test_the_date_stands_still(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.chat_template = "{% if strftime_now is defined %}{{ strftime_now('%A, %d %b %Y') }}{% endif %}" + PLAIN
    assert chat_from(tokenizer).apply_chat_template(CHAT).startswith("Friday, 26 Jul 2024<system>")


def test_refusals(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    with pytest.raises(UsageError, match="the model's tokenizer has no chat template; leave out chat_template"):
        chat_from(tokenizer).apply_chat_template(CHAT)
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(jinja2.exceptions.TemplateError):  # a task says which item
        chat_from(tokenizer).apply_chat_template(CHAT)
