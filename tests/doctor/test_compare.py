"""What small files say: every finding on a model that has it, none of them on a family that has nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.checkpoints.adapters import write_adapter
from tests.checkpoints.models import config, copy_of, edit_json, tokenizer
from tests.doctor.models import codes, examine, found, write_changed


def test_nothing_is_reported_of_a_sound_family(base: Path, math: Path, code: Path) -> None:
    diagnosis = examine(base, math, code)
    assert diagnosis.findings == ()
    assert diagnosis.merges


def _config(**changes: object) -> Callable[[Path], None]:
    return lambda path: edit_json(path / "config.json", **changes)


def _generation(**changes: object) -> Callable[[Path], None]:
    return lambda path: edit_json(path / "generation_config.json", **changes)


def _template(text: str) -> Callable[[Path], None]:
    return lambda path: _write(path / "chat_template.jinja", text)


def _card(head: str) -> Callable[[Path], None]:
    return lambda path: _write(path / "README.md", f"---\n{head}\n---\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _renamed_token(path: Path) -> None:
    tokenizer(renamed=("w3", "www")).save_pretrained(path)


def _pickled(path: Path) -> None:
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def _truncated(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _wider(path: Path) -> None:
    wide = config()
    wide.intermediate_size = 64
    LlamaForCausalLM(wide).to(torch.bfloat16).save_pretrained(path)


def _float32(path: Path) -> None:
    tensors = {name: tensor.float() for name, tensor in load_file(path / "model.safetensors").items()}
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def _rope(theta: float) -> Callable[[Path], None]:
    return _config(rope_parameters={"rope_theta": theta, "rope_type": "default"})


@pytest.mark.parametrize(
    ("spoil", "code", "severity", "words"),
    [
        (_config(model_type="mistral"), "architecture", "stop", ["model_type is 'mistral'", "'llama'"]),
        (_config(architectures=["MistralForCausalLM"]), "architecture", "stop", ["MistralForCausalLM"]),
        (_config(num_attention_heads=8), "architecture", "stop", ["num_attention_heads is 8", "4"]),
        (_config(hidden_act="gelu"), "architecture", "stop", ["hidden_act is 'gelu'", "'silu'"]),
        (_wider, "shapes", "stop", ["6 tensors have another shape", "mlp.down_proj", "[32, 64]", "[32, 56]"]),
        (_rope(1e6), "rope", "warning", ["rope_theta is 1000000.0", "10000.0"]),
        (
            _config(rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}),
            "rope",
            "warning",
            ["factor is 4.0", "'linear'", "not said"],
        ),
        (_config(rope_parameters={"rope_type": "default"}), "rope", "note", ["rope_theta is not said (the default)"]),
        (_config(rms_norm_eps=1e-3), "setting", "warning", ["rms_norm_eps is 0.001", "1e-06"]),
        (_config(max_position_embeddings=128), "settings", "note", ["max_position_embeddings 128 (base: 64)"]),
        (_config(quantization_config={"quant_method": "gptq"}), "quantised", "stop", ["gptq"]),
        (_pickled, "unreadable", "stop", ["pickled"]),
        (_truncated, "unreadable", "stop", ["truncated"]),
        (_float32, "dtype", "note", ["float32", "bfloat16"]),
        (_renamed_token, "tokenizer", "stop", ["another tokenizer", "95 in both"]),
        (_template("{{ messages }}"), "chat-template", "warning", ["another chat template than the base"]),
        (_generation(eos_token_id=[7, 9]), "special-tokens", "warning", ["eos_token_id is 7 or 9"]),
        (_card("license: cc-by-nc-4.0"), "licence", "warning", ["cc-by-nc-4.0", "commercial"]),
        (_card("license: cc-by-sa-4.0"), "licence", "warning", ["cc-by-sa-4.0", "own terms"]),
        (_card("license: llama3"), "licence", "note", ["llama3", "terms of its own"]),
        (_card("license: mit"), "licences", "note", ["licences differ", "apache-2.0", "mit"]),
        (_card("tags: [x]"), "licence-unknown", "note", ["no licence named by expert"]),
        (_card("license: apache-2.0\nbase_model: org/Other-7B"), "parent", "note", ["org/Other-7B"]),
    ],
)
def test_each_difference_is_found(
    base: Path, math: Path, tmp_path: Path, spoil: Callable[[Path], None], code: str, severity: str, words: list[str]
) -> None:
    expert = copy_of(math, tmp_path / "expert")
    spoil(expert)
    diagnosis = examine(base, expert)
    finding = found(code, diagnosis)
    assert finding.severity == severity
    assert "expert" in finding.models
    for word in words:
        assert word in finding.text
    assert diagnosis.merges is (severity != "stop")


def test_all_differences_are_reported_not_only_the_first(base: Path, math: Path, tmp_path: Path) -> None:
    expert = copy_of(math, tmp_path / "expert")
    _wider(expert)
    _renamed_token(expert)
    edit_json(expert / "config.json", model_type="mistral", num_attention_heads=8)
    diagnosis = examine(base, expert, math)
    assert codes(diagnosis) >= {"architecture", "shapes", "tokenizer"}
    keys = [finding.details["key"] for finding in diagnosis.findings if finding.code == "architecture"]
    assert keys == ["intermediate_size", "model_type", "num_attention_heads"]
    assert {label for finding in diagnosis.findings for label in finding.models} == {"expert"}
    assert diagnosis.deltas is not None
    assert {"expert", "math"} == diagnosis.deltas.experts.keys(), "what can be compared is measured all the same"


def test_missing_and_extra_tensors(base: Path, math: Path, tmp_path: Path) -> None:
    lost = "model.layers.1.mlp.up_proj.weight"
    expert = write_changed(math, tmp_path / "expert", lambda name, w: None if name == lost else w)
    tensors = load_file(expert / "model.safetensors")
    save_file({**tensors, "model.extra.weight": torch.ones(3)}, expert / "model.safetensors", metadata={"format": "pt"})
    texts = [finding.text for finding in examine(base, expert).findings if finding.code == "tensors"]
    assert texts == [f"lacks 1 tensor: {lost}", "has, and the base lacks, 1 tensor: model.extra.weight"]


def test_a_base_that_cannot_be_read_is_a_finding_too(base: Path, math: Path, tmp_path: Path) -> None:
    broken = copy_of(base, tmp_path / "broken")
    _truncated(broken)
    diagnosis = examine(broken, math)
    assert [(finding.code, finding.models) for finding in diagnosis.findings] == [("unreadable", ("base",))]
    assert diagnosis.deltas is None


def test_rotary_embeddings_in_the_old_and_the_new_notation_are_the_same(base: Path, math: Path, tmp_path: Path) -> None:
    expert = copy_of(math, tmp_path / "expert")
    old = json.loads((expert / "config.json").read_text())
    del old["rope_parameters"]
    (expert / "config.json").write_text(json.dumps({**old, "rope_theta": 10000.0, "rope_scaling": None}))
    assert examine(base, expert).findings == ()


def test_settings_of_a_nested_language_model_are_compared(base: Path, math: Path, tmp_path: Path) -> None:
    pair = [copy_of(base, tmp_path / "one"), copy_of(math, tmp_path / "two")]
    for path, eps in zip(pair, (1e-6, 1e-5), strict=True):
        edit_json(path / "config.json", text_config={"rms_norm_eps": eps})
    assert "text_config.rms_norm_eps" in found("setting", examine(*pair)).text


def _with_added_token(path: Path, token: str) -> PreTrainedTokenizerFast:
    words = tokenizer()
    words.add_tokens([token])
    words.save_pretrained(path)
    return words


def test_an_added_token_merges_by_a_choice_of_vocabulary(base: Path, math: Path, tmp_path: Path) -> None:
    expert = copy_of(math, tmp_path / "expert")
    model = LlamaForCausalLM.from_pretrained(expert, dtype=torch.bfloat16)
    model.resize_token_embeddings(97, mean_resizing=False)
    model.save_pretrained(expert)
    _with_added_token(expert, "<call>")
    diagnosis = examine(base, expert)
    assert found("added-tokens", diagnosis).details == {"adds": ["<call>"], "lacks": [], "moves": []}
    vocabulary = found("vocabulary", diagnosis)
    assert vocabulary.severity == "warning"
    assert "base | union | intersection" in vocabulary.text
    assert diagnosis.merges
    assert "shapes" not in codes(diagnosis)
    assert diagnosis.deltas is not None
    assert "embeddings" in diagnosis.deltas.experts["expert"].kinds, "measured on the rows that both have"


def test_experts_with_two_chat_templates_and_a_base_without(base: Path, math: Path, code: Path, tmp_path: Path) -> None:
    paths = [copy_of(path, tmp_path / path.name) for path in (base, math, code)]
    for path in paths:
        (path / "chat_template.jinja").unlink()
    assert examine(*paths).findings == ()
    for path in paths[1:]:
        _template("{{ one }}")(path)
    assert found("chat-template", examine(*paths)).severity == "note"
    _template("{{ two }}")(paths[2])
    assert found("chat-template", examine(*paths)).severity == "warning"


def test_an_adapter_is_measured_as_the_model_that_it_makes(base: Path, math: Path, tmp_path: Path) -> None:
    whole = write_adapter(base, tmp_path / "lora", target_modules=["q_proj", "v_proj"])
    shutil.copy(base / "README.md", tmp_path / "lora" / "README.md")
    diagnosis = examine(base, tmp_path / "lora", math)
    assert diagnosis.models[1].kind == "LORA r=4"
    assert diagnosis.merges
    assert "parent" not in codes(diagnosis)
    assert diagnosis.deltas is not None
    delta = diagnosis.deltas.experts["lora"]
    before = load_file(base / "model.safetensors")
    change = sum(((whole[name].double() - before[name].double()) ** 2).sum() for name in before) ** 0.5
    assert delta.whole.delta_norm == pytest.approx(float(change), rel=1e-5)
    assert "mlp" in found("untouched", diagnosis).text
    elsewhere = copy_of(tmp_path / "lora", tmp_path / "lora2")
    edit_json(elsewhere / "adapter_config.json", base_model_name_or_path="org/other")
    assert "org/other" in found("parent", examine(base, elsewhere)).text


def test_an_output_head_of_its_own_beside_a_tied_one(base: Path, math: Path, tmp_path: Path) -> None:
    expert = write_changed(math, tmp_path / "expert", lambda name, w: None if name == "lm_head.weight" else w)
    edit_json(expert / "config.json", tie_word_embeddings=True)
    assert "tied to the embeddings" in found("tied", examine(base, expert)).text
