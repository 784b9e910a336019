"""`export` and `merge`: sizes, the hub, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from evomerge.cli.writing import size
from evomerge.errors import UsageError
from tests.checkpoints.conftest import family
from tests.fake_hub import Hub, Repository, fake_hub, see
from tests.merging.recipes import recipe_of
from tests.search.runs import here

__all__ = ["family"]
Family = dict[str, Path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with fake_hub() as running:
        see(running, monkeypatch, tmp_path)
        yield running


@pytest.fixture
def recipe(family: Family, tmp_path: Path) -> str:
    (tmp_path / "recipe.yaml").write_text(recipe_of(family).to_yaml())
    return str(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("text", "found"),
    [("5GB", 5 * 10**9), ("2GiB", 2 * 2**30), ("500 mb", 5 * 10**8), ("1.5KB", 1500), ("1000", 1000), ("1", 1)],
)
def test_sizes(text: str, found: int) -> None:
    assert size(text) == found


@pytest.mark.parametrize("text", ["", "0", "GB", "-1", "5TB", "1e9", "0.1", "5 GB x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--shard-size"):
        size(text)


def test_shards_and_tokenizer(recipe: str, tmp_path: Path) -> None:
    done = here("merge", recipe, str(tmp_path / "out"), "--shard-size", "20KB", "--tokenizer-from", "code")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: licence: ")
    files = list((tmp_path / "out").glob("model-*.safetensors"))
    assert len(files) > 2
    assert all(file.stat().st_size < 24_000 for file in files)
    assert "those of the expert code" in (tmp_path / "out" / "README.md").read_text()


def test_the_hub_gets_what_is_on_the_disk(recipe: str, tmp_path: Path, hub: Hub) -> None:
    done = here("merge", recipe, str(tmp_path / "out"), "--push-to-hub", "org/merged", "--private")
    assert done.returncode == 0, done.stderr
    assert f"on the hub: {hub.url}/org/merged\n" in done.stdout
    repository = hub.repositories["org/merged"]
    assert repository.private
    on_disk = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {name: data for name, data in repository.files.items() if name != ".gitattributes"} == on_disk


def test_a_hub_that_refuses_says_so_before_anything_is_built(recipe: str, tmp_path: Path, hub: Hub) -> None:
    hub.repositories["org/merged"] = Repository(False, {"model.safetensors": b"theirs"})
    done = here("merge", recipe, str(tmp_path / "out"), "--push-to-hub", "org/merged")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_a_failed_upload_keeps_the_model_and_says_how_to_go_on(recipe: str, tmp_path: Path, hub: Hub) -> None:
    hub.refuse_commits = 403
    done = here("merge", recipe, str(tmp_path / "out"), "--push-to-hub", "org/merged", "--private")
    assert done.returncode == 1
    assert f"hf upload org/merged {tmp_path / 'out'} --private" in done.stderr
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["merge", "{recipe}", "{out}", "--private"], "--private goes with --push-to-hub"),
        (["merge", "{recipe}", "--mergekit", "{out}", "--push-to-hub", "org/m"], "needs OUT_DIR"),
        (["merge", "{recipe}", "{out}", "--push-to-hub", "m"], "org/name"),
        (["merge", "{recipe}", "{out}", "--shard-size", "big"], "--shard-size big"),
        (["export", "{out}", "{out}", "--predicted", "--pick", "3"], "exclude each other"),
        (["export", "{out}", "{out}", "--prefer", "a=1", "--pick", "3"], "exclude each other"),
    ],
)
def test_refusals(recipe: str, tmp_path: Path, words: list[str], says: str) -> None:
    done = here(*(word.format(recipe=recipe, out=tmp_path / "out") for word in words))
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_other_weights_than_expected_are_not_written(recipe: str, tmp_path: Path) -> None:
    done = here("merge", recipe, str(tmp_path / "out"), "--expect", "0" * 16)
    assert done.returncode == 1
    assert "0000000000000000 was expected" in done.stderr
    assert not (tmp_path / "out").exists()
