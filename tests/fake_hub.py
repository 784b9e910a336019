"""A model hub on this machine, for huggingface_hub's own client: accounts, repositories, commits, large files.

It checks the head of a model card by the rules that the hub's documentation gives (`modelcard.md` and the list of
licences in huggingface/hub-docs). The hub's own check is not public and may ask for more. Large files go through the
LFS protocol, not through Xet.
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
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_a_token_for_tests"
LICENCES = {
    *("apache-2.0", "mit", "openrail", "bsd", "bsd-2-clause", "bsd-3-clause", "cc", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0"),
    *("llama2", "gemma", "unknown", "other"),
}
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class Repository:
    """What the hub has of one model."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """The state of a hub; `url` is where it listens."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
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


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, data: Any = None, **headers: str) -> None:
        body = json.dumps(data or {}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
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
        name = path.removeprefix("/api/models/")
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        siblings = [{"rfilename": file} for file in repository.files]
        return self.answer(
            200, {"id": name, "modelId": name, "sha": "0" * 40, "private": repository.private, "siblings": siblings}
        )

    def do_POST(self) -> None:
        body, path = self.body(), self.path.split("?")[0]
        if path == "/api/validate-yaml":
            errors = metadata_errors(json.loads(body)["content"])
            return self.answer(400 if errors else 200, {"errors": [{"message": e} for e in errors], "warnings": []})
        if not self.known():
            return self.answer(401, {"error": "Invalid credentials in Authorization header"})
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
