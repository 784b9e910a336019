"""What headers and small files say about whether models merge: every difference, not only the first.

This file reads no weights (but for telling a tied output head from its own). It knows nothing about task vectors.
"""

from collections.abc import Sequence
from typing import Any

from evomerge.checkpoints.tied import tied_heads
from evomerge.checkpoints.tokenizer import Tokens, tokenizer_difference
from evomerge.doctor.facts import SPECIAL_TOKENS, Facts
from evomerge.doctor.findings import Finding, Severity, some
from evomerge.doctor.licences import terms
from evomerge.errors import UsageError
from evomerge.recipes.groups import place

# Settings (last word of their key) without which two models are two architectures.
_ARCHITECTURE = {
    "model_type",
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    *("hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "moe_intermediate_size"),
    *("num_attention_heads", "n_head", "num_key_value_heads", "head_dim"),
    *("hidden_act", "hidden_activation", "activation_function", "layer_types"),
    *("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "state_size"),
}
# Settings that change what the same weights compute.
_ARITHMETIC = (
    "eps",
    "epsilon",
    "window",
    "softcapping",
    "multiplier",
    "scaling",
    "scaling_factor",
    "logit_scale",
    "pre_attn_scalar",
)
_SHOWN = 6


def compare(base: Facts, experts: Sequence[Facts]) -> list[Finding]:
    """Return what is to be said about models before a weight is read."""
    models = (base, *experts)
    findings = [finding for facts in models for finding in _readable(facts)]
    for expert in experts:
        if expert.adapter is None:
            findings += _settings(base, expert)
            findings += _tensors(base, expert)
            findings += _dtypes(base, expert)
        findings += _tokenizer(base, expert)
        findings += _special_tokens(base, expert)
        findings += _parents(base, expert)
    findings += _chat_templates(base, experts)
    findings += _licences(models)
    return findings


def _readable(facts: Facts) -> list[Finding]:
    if facts.quantisation:
        return [
            Finding(
                "stop",
                "quantised",
                (facts.label,),
                f"is quantised ({facts.quantisation})",
                "take the original weights, or dequantise them",
            )
        ]
    if facts.problem:
        return [Finding("stop", "unreadable", (facts.label,), facts.problem)]
    return []


def _settings(base: Facts, expert: Facts) -> list[Finding]:
    findings = []
    minor: dict[str, Any] = {}
    rope: dict[str, Any] = {}
    if not base.config or not expert.config:
        return []
    classes = base.architecture, expert.architecture
    if classes[0] != classes[1] and None not in classes:
        findings.append(_architecture(expert, "architectures", *classes))
    for key in sorted(base.settings.keys() | expert.settings.keys()):
        ours, theirs = base.settings.get(key), expert.settings.get(key)
        name = key.rpartition(".")[2]
        if ours == theirs or name == "tie_word_embeddings":  # seen in the tensors
            continue
        said = ours is not None and theirs is not None
        if name in _ARCHITECTURE and said:
            findings.append(_architecture(expert, key, ours, theirs))
        elif "rope" in key.split("."):
            rope[key] = [ours, theirs]
        elif name.endswith(_ARITHMETIC):
            findings.append(
                Finding(
                    "warning" if said else "note",
                    "setting",
                    (expert.label,),
                    f"{key} is {_said(theirs)}, the base has {_said(ours)}: the same weights "
                    f"{'' if said else 'may '}compute something else",
                    "the merged model takes the base's",
                )
            )
        elif said:
            minor[key] = [ours, theirs]
    if rope:
        findings.append(_rope(expert, rope))
    if minor:
        shown = [f"{key} {theirs!r} (base: {ours!r})" for key, (ours, theirs) in minor.items()]
        text = f"other settings differ: {some(shown, _SHOWN)}"
        findings.append(
            Finding("note", "settings", (expert.label,), text, "the merged model takes the base's", details=minor)
        )
    return findings


def _architecture(expert: Facts, key: str, ours: Any, theirs: Any) -> Finding:
    return Finding(
        "stop",
        "architecture",
        (expert.label,),
        f"{key} is {theirs!r}, the base has {ours!r}",
        "only fine-tunes of the same base can be merged",
        details={"key": key, "base": ours, "expert": theirs},
    )


def _rope(expert: Facts, different: dict[str, Any]) -> Finding:
    shown = [f"{key} is {_said(theirs)}, the base has {_said(ours)}" for key, (ours, theirs) in different.items()]
    # A theta that one config leaves to its class's default may be the same.
    unsure = all(key.endswith("rope_theta") and None in values for key, values in different.items())
    return Finding(
        "note" if unsure else "warning",
        "rope",
        (expert.label,),
        f"rotary embeddings differ: {some(shown, _SHOWN)}",
        "the merged model takes the base's, for which this expert's attention was not trained; look closely at its own "
        "task and at long texts",
        details=different,
    )


def _said(value: Any) -> str:
    return "not said (the default)" if value is None else repr(value)


def _tensors(base: Facts, expert: Facts) -> list[Finding]:
    if base.model is None or expert.model is None:
        return []
    findings = []
    try:
        ties = [set(tied_heads(facts.model)) for facts in (base, expert) if facts.model]
    except UsageError as error:
        return [Finding("stop", "unreadable", (expert.label,), str(error))]
    ours, theirs = base.shapes.keys() - ties[0], expert.shapes.keys() - ties[1]
    missing = sorted(name for name in ours - theirs if place(name).kind != "head")
    extra = sorted(name for name in theirs - ours if place(name).kind != "head")
    heads = [sorted(name for name in names if place(name).kind == "head") for names in (ours, theirs)]
    if heads[0] != heads[1]:
        own, tied = "a matrix of its own", "tied to the embeddings"
        text = f"its output head is {own if heads[1] else tied}, the base's is {own if heads[0] else tied}"
        findings.append(Finding("note", "tied", (expert.label,), text))
    for names, verb in ((missing, "lacks"), (extra, "has, and the base lacks,")):
        if names:
            text = f"{verb} {len(names)} {'tensor' if len(names) == 1 else 'tensors'}: {some(names)}"
            hint = "only fine-tunes of the same base can be merged"
            findings.append(Finding("stop", "tensors", (expert.label,), text, hint, details=names))
    unlike = {
        name: [list(base.shapes[name]), list(expert.shapes[name])]
        for name in sorted(ours & theirs)
        if base.shapes[name] != expert.shapes[name] and not _rows_only(name, base, expert)
    }
    if unlike:
        shown = [f"{name} {b} (base: {a})" for name, (a, b) in unlike.items()]
        text = f"{len(unlike)} {'tensor has' if len(unlike) == 1 else 'tensors have'} another shape: {some(shown)}"
        hint = "only fine-tunes of the same base can be merged"
        findings.append(Finding("stop", "shapes", (expert.label,), text, hint, details=unlike))
    return findings


def _rows_only(name: str, base: Facts, expert: Facts) -> bool:
    """Say whether a tensor differs in its number of tokens only: that is the vocabulary's affair."""
    return place(name).kind in ("embeddings", "head") and base.shapes[name][1:] == expert.shapes[name][1:]


def _dtypes(base: Facts, expert: Facts) -> list[Finding]:
    if not base.dtypes or not expert.dtypes or base.dtypes.keys() == expert.dtypes.keys():
        return []
    text = f"its weights are {' and '.join(expert.dtypes)}, the base's {' and '.join(base.dtypes)}"
    hint = "they merge; in the coarser of the two, small changes were rounded away before we see them"
    return [Finding("note", "dtype", (expert.label,), text, hint)]


def _tokenizer(base: Facts, expert: Facts) -> list[Finding]:
    try:
        difference = tokenizer_difference(base.path, expert.path)
        if difference is None:
            return []
        ours, theirs = Tokens.read(base.path), Tokens.read(expert.path)
    except (ValueError, OSError) as error:
        return [Finding("stop", "tokenizer", (expert.label,), f"tokenizers cannot be compared: {error}")]
    hint = "take an expert that was trained with the base's tokenizer"
    if ours is None or theirs is None:
        return [Finding("stop", "tokenizer", (expert.label,), f"another tokenizer: {difference}", hint)]
    core = ours.core_difference(theirs)
    if core:
        moved = sum(ours.numbers[t] != theirs.numbers[t] for t in ours.numbers.keys() & theirs.numbers.keys())
        shared = len(ours.numbers.keys() & theirs.numbers.keys())
        text = (
            f"another tokenizer: {core} (base against expert); {len(ours.numbers)} tokens against "
            f"{len(theirs.numbers)}, {shared} in both, {moved} of them with another number"
        )
        return [Finding("stop", "tokenizer", (expert.label,), text, hint)]
    more = sorted(theirs.numbers.keys() - ours.numbers.keys(), key=theirs.numbers.__getitem__)
    less = sorted(ours.numbers.keys() - theirs.numbers.keys(), key=ours.numbers.__getitem__)
    moved_tokens = sorted(
        t for t in ours.numbers.keys() & theirs.numbers.keys() if ours.numbers[t] != theirs.numbers[t]
    )
    parts = [
        f"{verb} {some([repr(token) for token in tokens])}"
        for verb, tokens in (("adds", more), ("lacks", less), ("numbers otherwise", moved_tokens))
        if tokens
    ]
    return [
        Finding(
            "note",
            "added-tokens",
            (expert.label,),
            f"the base's tokenizer with other added tokens: {'; '.join(parts)}",
            details={"adds": more, "lacks": less, "moves": moved_tokens},
        )
    ]


def _special_tokens(base: Facts, expert: Facts) -> list[Finding]:
    if expert.adapter is not None:
        return []
    findings = []
    for name in SPECIAL_TOKENS:
        ours, theirs = base.special_tokens[name], expert.special_tokens[name]
        if ours == theirs or ours is None or theirs is None:
            continue
        severity: Severity = "warning" if name == "eos_token_id" else "note"
        hint = (
            "the merged model stops at the base's; where the expert was trained to end its answers with another token, "
            "set eos_token_id in generation_config.json to both"
            if name == "eos_token_id"
            else "the merged model takes the base's"
        )
        text = f"{name} is {_numbers(theirs)}, the base has {_numbers(ours)}"
        findings.append(Finding(severity, "special-tokens", (expert.label,), text, hint))
    return findings


def _numbers(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else repr(value)


def _parents(base: Facts, expert: Facts) -> list[Finding]:
    """Hold the name of the base that a model was made from against the base's own names."""
    if not expert.parents:
        return []
    named = {_last(parent) for parent in expert.parents}
    if _last(base.reference) in named or base.path.name.lower() in named:
        return []
    where = "its adapter_config.json" if expert.adapter is not None else "its card"
    return [
        Finding(
            "note",
            "parent",
            (expert.label,),
            f"{where} says that it was made from {some(list(expert.parents))}; the base is {base.reference}",
            "fine if both are the same weights under two names; else take that model as the base",
            details=list(expert.parents),
        )
    ]


def _last(reference: str) -> str:
    """Return the bare name of a reference: without organisation, revision, folder or `zoo:`."""
    return reference.partition("@")[0].rstrip("/").rpartition("/")[2].removeprefix("zoo:").lower()


def _chat_templates(base: Facts, experts: Sequence[Facts]) -> list[Finding]:
    having = [expert for expert in experts if expert.chat_template is not None]
    different = [expert for expert in having if expert.chat_template != base.chat_template]
    if not different:
        return []
    labels = tuple(expert.label for expert in different)
    among = {expert.chat_template for expert in having}
    if base.chat_template is None and len(among) == 1:
        text = f"the base has no chat template; {some(labels)} {'has' if len(labels) == 1 else 'share'} one"
        hint = "the merged model takes the base's files: give it the expert's tokenizer, or chat prompts are malformed"
        return [Finding("note", "chat-template", labels, text, hint)]
    text = (
        "the experts' chat templates differ"
        if len(among) > 1
        else f"{some(labels)} {'has' if len(labels) == 1 else 'have'} another chat template than the base"
    )
    hint = "one prompt format serves the merged model: score every expert's task with it before you believe a merge"
    return [Finding("warning", "chat-template", labels, text, hint)]


def _licences(models: Sequence[Facts]) -> list[Finding]:
    findings = []
    labels = {facts.label: facts.licence for facts in models}
    for kind, severity, text, hint in (
        ("non-commercial", "warning", "forbids commercial use", "this may bind the merged model too: read its terms"),
        ("share-alike", "warning", "asks for derived works under its own terms", "check it against the other licences"),
        ("own terms", "note", "has terms of its own", "read them before you publish a merge"),
    ):
        for label, licence in labels.items():
            if terms(licence) == kind:
                findings.append(Finding(severity, "licence", (label,), f"licence {licence}: {text}", hint))  # type: ignore[arg-type]
    silent = tuple(label for label, licence in labels.items() if licence is None)
    named = sorted({licence for licence in labels.values() if licence})
    if len(named) > 1:
        text = f"licences differ: {', '.join(f'{label}: {licence}' for label, licence in labels.items() if licence)}"
        findings.append(Finding("note", "licences", tuple(labels), text, "the merged model is made from all of them"))
    if silent:
        text = f"no licence named by {some(silent)}"
        findings.append(Finding("note", "licence-unknown", silent, text, "look it up before you publish a merge"))
    return findings
