from pathlib import Path

from evomerge.checkpoints import Checkpoint
from evomerge.doctor.layers import group_rows
from evomerge.recipes import Layout


def test_equal_layers_are_one_row(base: Path) -> None:
    model = Checkpoint.open(base)
    rows = {row.group: row for row in group_rows({name: model.shape(name) for name in model.names})}
    assert list(rows) == [
        "embeddings",
        "layers.0-1.attention",
        "layers.0-1.mlp",
        "layers.0-1.rest",
        "head",
        "norms",
    ]
    assert rows["layers.0-1.mlp"].names == ("mlp.down_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight")
    assert rows["layers.0-1.mlp"].parameters == 2 * 3 * 32 * 56
    assert sum(row.parameters for row in rows.values()) == model.parameters
    layout = Layout.of(model.names)
    for group, row in rows.items():
        assert row.tensors == len(layout.members(group)), "as a recipe would read it"


def test_layers_of_several_kinds_and_mixtures_of_experts() -> None:
    shapes = {}
    for layer in range(5):
        kind = "self_attn" if layer in (2, 3) else "mamba"
        shapes[f"model.layers.{layer}.{kind}.in_proj.weight"] = (4, 4)
        for expert in range(3):
            shapes[f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight"] = (4, 2)
    rows = group_rows(shapes)
    runs = list(dict.fromkeys(row.group.rpartition(".")[0] for row in rows))
    assert runs == ["layers.0-1", "layers.2-3", "layers.4"]
    moe = next(row for row in rows if row.group == "layers.0-1.mlp")
    assert (moe.tensors, moe.parameters, moe.names) == (6, 48, ("mlp.experts.*.up_proj.weight",))
