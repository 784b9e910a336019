"""Uploads by huggingface_hub's own client to a hub on this machine (`tests/fake_hub.py`).

Not seen here: the hub's own check of cards, its Xet storage, rate limits, organisations that ask for more.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from evomerge.checkpoints.upload import check_repository, upload
from evomerge.errors import UsageError, WorkError
from tests.fake_hub import Hub, Repository, fake_hub, see

CARD = "---\nlicense: unknown\ntags: [merge]\n---\n# Model\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with fake_hub() as running:
        see(running, monkeypatch, tmp_path)
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with small, large and nested files."""
    path = tmp_path / "model"
    (path / "additional_chat_templates").mkdir(parents=True)
    (path / "README.md").write_text(CARD)
    (path / "config.json").write_text("{}")
    (path / "additional_chat_templates" / "tools.jinja").write_text("x")
    for number in (1, 2):
        (path / f"model-0000{number}-of-00002.safetensors").write_bytes(os.urandom(100_000))
    return path


def push(model: Path, *, private: bool = False) -> str:
    check_repository("org/merged", private=private)
    return upload(model, "org/merged", private=private)


@pytest.mark.parametrize("private", [True, False])
def test_all_files_in_one_commit(hub: Hub, model: Path, private: bool) -> None:
    assert push(model, private=private) == f"{hub.url}/org/merged"
    repository = hub.repositories["org/merged"]
    assert len(repository.commits) == 1
    assert repository.private == private
    files = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert {name: data for name, data in repository.files.items() if name != ".gitattributes"} == files
    assert len(hub.blobs) == 2


def test_an_empty_repository_is_filled(hub: Hub, model: Path) -> None:
    hub.repositories["org/merged"] = Repository(False, {".gitattributes": b"x"})
    push(model)
    assert "config.json" in hub.repositories["org/merged"].files


def test_a_repository_with_files_is_refused_and_kept(hub: Hub, model: Path) -> None:
    hub.repositories["org/merged"] = Repository(False, {".gitattributes": b"", "model.safetensors": b"theirs"})
    with pytest.raises(UsageError, match=r"org/merged holds files \(model.safetensors"):
        push(model)
    assert hub.repositories["org/merged"].files["model.safetensors"] == b"theirs"
    assert hub.repositories["org/merged"].commits == []


def test_a_private_model_does_not_go_into_a_public_repository(hub: Hub) -> None:
    hub.repositories["org/merged"] = Repository(False)
    with pytest.raises(UsageError, match="is there and public"):
        check_repository("org/merged", private=True)


@pytest.mark.parametrize(
    ("repository", "token", "offline", "says"),
    [
        ("merged", "hf_wrong", False, "write it as org/name"),
        ("org/a--b", "hf_wrong", False, "'org/a--b'"),
        ("org/merged", "hf_wrong", True, "HF_HUB_OFFLINE"),
        ("org/merged", "", False, "hf auth login"),
        ("org/merged", "hf_wrong", False, "org/merged: "),
    ],
)
def test_what_would_fail_is_refused_early(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, repository: str, token: str, offline: bool, says: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(UsageError) as refused:
        check_repository(repository, private=False)
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert hub.repositories == {}


@pytest.mark.parametrize("what", ["card", "commit"])
def test_what_the_hub_refuses_is_not_half_there(hub: Hub, model: Path, what: str) -> None:
    if what == "card":
        (model / "README.md").write_text(CARD.replace("unknown", "house-rules"))
    else:
        hub.refuse_commits = 403
    with pytest.raises(WorkError, match="hub repository org/merged: ") as refused:
        push(model)
    assert len(str(refused.value).splitlines()) == 1
    assert set(hub.repositories["org/merged"].files) == {".gitattributes"}


def test_a_hub_out_of_reach(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="hub repository org/merged: "):
        check_repository("org/merged", private=False)
