import shutil
from pathlib import Path

import pytest

from evomerge.checkpoints import Checkpoint, ModelReference, resolve
from evomerge.errors import UsageError

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(family: dict[str, Path], tmp_path: Path) -> Path:
    """A hub cache with org/expert: revision `main` is the maths expert, tag `v1` the base."""
    store = tmp_path / "hub" / "models--org--expert"
    for revision, commit, name in (("main", SHA, "math"), ("v1", SHA[::-1], "base")):
        (store / "refs").mkdir(parents=True, exist_ok=True)
        (store / "refs" / revision).write_text(commit)
        blobs = store / "blobs" / commit
        shutil.copytree(family[name], blobs)
        snapshot = store / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for blob in blobs.iterdir():
            (snapshot / blob.name).symlink_to(blob)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("text", "kind", "name", "revision"),
    [
        ("org/name", "hub", "org/name", None),
        ("org/name@refs/pr/3", "hub", "org/name", "refs/pr/3"),
        ("Qwen/Qwen2.5-0.5B@v1.0", "hub", "Qwen/Qwen2.5-0.5B", "v1.0"),
        ("zoo:math", "zoo", "math", None),
    ],
)
def test_parse(text: str, kind: str, name: str, revision: str | None) -> None:
    reference = ModelReference.parse(text)
    assert (reference.kind, reference.name, reference.revision) == (kind, name, revision)
    assert str(reference) == text


def test_an_existing_directory_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert ModelReference.parse("org/name").kind == "directory"
    assert resolve("org/name") == Path("org/name")


@pytest.mark.parametrize("text", ["", "nowhere", "./org/name", "/no/such/dir", "a/b/c", "x" * 5000, "org/name@"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"empty|no such directory"):
        ModelReference.parse(text)


def test_a_file_is_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UsageError, match="is a file, not a model directory"):
        ModelReference.parse(str(tmp_path / "model.safetensors"))


def test_hub_models_come_from_the_cache_offline(cache: Path, family: dict[str, Path]) -> None:
    latest = resolve("org/expert", cache_dir=cache)
    assert latest.name == SHA
    assert Checkpoint.open(latest).sha256 == Checkpoint.open(family["math"]).sha256
    for revision in ("v1", SHA[::-1]):
        pinned = Checkpoint.open(resolve(f"org/expert@{revision}", cache_dir=cache))
        assert pinned.sha256 == Checkpoint.open(family["base"]).sha256


@pytest.mark.parametrize("text", ["org/other", "org/expert@v2"])
def test_what_the_cache_lacks_is_one_clear_line(cache: Path, text: str) -> None:
    with pytest.raises(UsageError, match=f"model {text}: .*not .* in the hub cache") as error:
        resolve(text, cache_dir=cache)
    assert "\n" not in str(error.value)


def test_an_unknown_zoo_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'math'"):
        resolve("zoo:maths")
