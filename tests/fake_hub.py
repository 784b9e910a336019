"""A model hub on this machine, for huggingface_hub's own client: accounts, repositories, commits, large files.

It checks the head of a model card by the rules that the hub's documentation gives (`modelcard.md` and the list of
licences in huggingface/hub-docs). The hub's own check is not public and may ask for more. Large files go through the
LFS protocol, not through Xet; files are given out whole, by this server itself. What it does not know it has not (404):
so do the viewer of data sets and their exports.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_a_token_for_tests"
LICENCES = {
    *("apache-2.0", "mit", "openrail", "bsd", "bsd-2-clause", "bsd-3-clause", "cc", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0"),
    *("llama2", "gemma", "unknown", "other"),
}
#: The last commit of every repository.
HEAD = "0" * 40
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class Repository:
    """What the hub has of one model or data set.

    `older`: commit -> the files that it had then.
    """

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit that a revision names, and its files."""
        if revision in ("main", HEAD):
            return HEAD, self.files
        return (revision, self.older[revision]) if revision in self.older else None


@dataclass
class Hub:
    """The state of a hub; `url` is where it listens."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    data_sets: dict[str, Repository] = field(default_factory=dict)
    #: files that were given out, as repository/path
    given: list[str] = field(default_factory=list)
    #: status to answer commits with, in place of taking them
    refuse_commits: int | None = None


def metadata_errors(content: str) -> list[str]:
    """What the documented rules have against a card."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if not match:
        return ["no metadata"]
    data = yaml.safe_load(match.group(1))
    errors = []
    if data.get("license") not in LICENCES:
        errors.append(f'"license" must be one of {sorted(LICENCES)}')
    for name in data.get("base_model", []):
        if not _REPOSITORY.fullmatch(name):
            errors.append(f'"base_model" with value "{name}" is not valid')
    if not all(isinstance(tag, str) for tag in data.get("tags", [])):
        errors.append('"tags" must be strings')
    for model in data.get("model-index", []):
        for result in model["results"]:
            required = [result["task"].get("type"), result["dataset"].get("type"), result["dataset"].get("name")]
            required += [metric.get(key) for metric in result["metrics"] for key in ("type", "value")]
            if any(value in (None, "") for value in required) or not model.get("name"):
                errors.append('"model-index" lacks a required field')
    return errors


def entries(paths: list[str], files: dict[str, bytes]) -> list[dict[str, Any]]:
    """What the hub says of files and folders, of those that there are."""
    found: list[dict[str, Any]] = []
    for path in paths:
        if path in files:
            oid = hashlib.sha1(files[path]).hexdigest()
            found.append({"type": "file", "path": path, "size": len(files[path]), "oid": oid})
        elif any(file.startswith(f"{path}/") for file in files):
            found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
    return found


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, data: Any = None, **headers: str) -> None:
        body = json.dumps({} if data is None else data).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if not self.known():
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
        if path == "/api/whoami-v2":
            return self.answer(200, {"type": "user", "name": "someone", "orgs": [{"name": "org"}]})
        if match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.give(*match.groups())
        if match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(/.*)?)?", path):
            return self.describe(*match.groups())
        return self.answer(404, {"error": f"no such address: {path}"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def find(self, data_set: bool, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and files of a repository at a revision; None if that is answered already."""
        repository = (self.hub.data_sets if data_set else self.hub.repositories).get(name)
        if repository is None:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        found = repository.at(revision)
        if found is None:
            return self.answer(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
        return found

    def describe(self, kind: str, name: str, what: str | None, revision: str | None, under: str | None) -> None:
        found = self.find(kind == "datasets", name, unquote(revision or "main"))
        if found is None:
            return None
        commit, files = found
        if what == "tree":
            folder = unquote(under or "").strip("/")
            inside = {path for path in files if path.startswith(f"{folder}/" if folder else "")}
            folders = {str(parent) for path in inside for parent in PurePosixPath(path).parents} - {".", folder}
            if "recursive=true" not in self.path.lower():
                inside = {path for path in inside | folders if str(PurePosixPath(path).parent) == (folder or ".")}
            return self.answer(200, entries(sorted(inside), files))
        siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
        return self.answer(
            200, {"id": name, "modelId": name, "sha": commit, "private": False, "siblings": siblings, "tags": []}
        )

    def give(self, kind: str | None, name: str, revision: str, file: str) -> None:
        found = self.find(kind is not None, name, unquote(revision))
        if found is None:
            return
        commit, files = found
        data = files.get(unquote(file))
        if data is None:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(data) - first))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "GET":
            self.hub.given.append(f"{name}/{unquote(file)}")
            self.wfile.write(data[first:])

    def do_POST(self) -> None:
        body, path = self.body(), self.path.split("?")[0]
        if path == "/api/validate-yaml":
            errors = metadata_errors(json.loads(body)["content"])
            return self.answer(400 if errors else 200, {"errors": [{"message": e} for e in errors], "warnings": []})
        if not self.known():
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
        if match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/paths-info/([^/]+)", path):
            kind, name, revision = match.groups()
            found = self.find(kind == "datasets", name, unquote(revision))
            asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
            return None if found is None else self.answer(200, entries(asked, found[1]))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'someone'}/{asked['name']}"
            exists = name in self.hub.repositories
            if not exists:
                private = bool(asked.get("private")) or asked.get("visibility") == "private"
                self.hub.repositories[name] = Repository(private, {".gitattributes": b""})
            return self.answer(409 if exists else 200, {"url": f"{self.hub.url}/{name}", "name": name})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**asked, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{asked['oid']}"}}}
                for asked in json.loads(body)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            return self.commit(match.group(1), body)
        return self.answer(404, {"error": f"no such address: {path}"})

    def do_PUT(self) -> None:
        data = self.body()
        assert hashlib.sha256(data).hexdigest() == self.path.removeprefix("/lfs/")
        self.hub.blobs[self.path.removeprefix("/lfs/")] = data
        self.answer(200)

    def commit(self, name: str, body: bytes) -> None:
        if self.hub.refuse_commits:
            return self.answer(self.hub.refuse_commits, {"error": "the hub has a bad day"})
        repository = self.hub.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.blobs[value["oid"]]
        return self.answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40})


@contextmanager
def fake_hub() -> Iterator[Hub]:
    """Run a hub in a thread."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def see(hub: Hub, patch: pytest.MonkeyPatch, home: Path, token: str = TOKEN) -> None:
    """Have huggingface_hub in this process see this hub and no other, as its environment variables would at a start."""
    for name, value in {
        "ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(home / "token"),
    }.items():
        patch.setattr(constants, name, value)
    patch.setenv("HF_TOKEN", token)
    patch.setenv("no_proxy", "127.0.0.1")
