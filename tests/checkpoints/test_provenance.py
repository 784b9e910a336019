import hashlib
import shutil
from pathlib import Path

import pytest

from evomerge.checkpoints import ModelPool
from evomerge.checkpoints.provenance import trace

Family = dict[str, Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def snapshot(model: Path, hub: Path, folder: str) -> Path:
    """A model as huggingface_hub keeps it: a snapshot of links to blobs."""
    blobs, links = hub / folder / "blobs", hub / folder / "snapshots" / COMMIT
    shutil.copytree(model, blobs)
    links.mkdir(parents=True)
    for blob in blobs.iterdir():
        (links / blob.name).symlink_to(blob)
    return links


def test_files_and_their_bytes(sharded: Family) -> None:
    pool = ModelPool.open(str(sharded["base"]), {"code": str(sharded["code"]), "math": str(sharded["math"])})
    found = trace(pool, threads=3)
    assert list(found) == ["", "code", "math"]
    for label, name in (("", "base"), ("code", "code"), ("math", "math")):
        provenance = found[label]
        assert provenance.reference == str(sharded[name])
        assert (provenance.repository, provenance.revision) == (None, None)
        files = sorted(path.name for path in sharded[name].glob("*.safetensors"))
        assert len(files) > 1
        assert list(provenance.files) == sorted([*files, "config.json", "tokenizer.json"])
        for file, digest in provenance.files.items():
            assert digest == hashlib.sha256((sharded[name] / file).read_bytes()).hexdigest()
    assert found["code"].files != found["math"].files
    assert trace(pool, threads=1) == found


def test_repository_and_commit_of_a_hub_model(family: Family, tmp_path: Path) -> None:
    math = snapshot(family["math"], tmp_path, "models--org--math-7B_v1.5")
    alone = snapshot(family["code"], tmp_path, "models--gpt2")
    found = trace(ModelPool.open(str(family["base"]), {"code": str(alone), "math": str(math)}))
    assert (found["math"].repository, found["math"].revision) == ("org/math-7B_v1.5", COMMIT)
    assert (found["code"].repository, found["code"].revision) == ("gpt2", COMMIT)
    assert (found[""].repository, found[""].revision) == (None, None)


@pytest.mark.parametrize(
    "place", ["models--org--math/snapshots/main", "math/snapshots/" + COMMIT, "models--a--b/" + COMMIT]
)
def test_what_only_looks_like_one_is_none(family: Family, tmp_path: Path, place: str) -> None:
    shutil.copytree(family["math"], tmp_path / place)
    found = trace(ModelPool.open(str(family["base"]), {"math": str(tmp_path / place)}))
    assert (found["math"].repository, found["math"].revision) == (None, None)
