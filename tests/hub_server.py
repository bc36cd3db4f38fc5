"""A small Hub for tests: as much of the Hugging Face Hub's protocol as `huggingface_hub` and `datasets` use for datasets.

    with HubServer(token="hf_x") as hub:      # HF_ENDPOINT=hub.url
        ...
        hub.repos["org/name"].branches["main"]   # {path: bytes}

Repositories, branches, the preupload question, Git LFS (batch, PUT, multipart, verify), the ndjson commit, and reading: revisions, trees,
files with ranges. Every LFS object's SHA-256 is computed here: content that is not what its oid says is refused, and a
commit that names an object which did not arrive, too. Xet storage is not spoken (HF_HUB_DISABLE_XET=1).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repo:
    """A repository: its branches' files, and the commits."""

    visibility: str
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b""}})
    commits: list[dict[str, Any]] = field(default_factory=list)

    def sha(self, branch: str) -> str:
        files = {path: hashlib.sha1(data).hexdigest() for path, data in sorted(self.branches[branch].items())}
        return hashlib.sha1(json.dumps([branch, files]).encode()).hexdigest()

    def branch(self, revision: str) -> str | None:
        return revision if revision in self.branches else next((b for b in self.branches if self.sha(b) == revision), None)


class HubServer:
    """The server. `token` may write to `namespace`; any other known token may not; `lfs_over` bytes go through LFS."""

    def __init__(
        self, *, token: str = "hf_good", readers: tuple[str, ...] = (), namespace: str = "org", lfs_over: int = 1000
    ) -> None:
        self.token, self.readers, self.namespace, self.lfs_over = token, readers, namespace, lfs_over
        self.part_size: int | None = None  # of multipart uploads; None: one PUT
        self.corrupt = False  # damages what arrives
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.log: list[tuple[str, str, int]] = []
        self._parts: dict[str, dict[int, bytes]] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                if self.headers.get("transfer-encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline().strip(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(length)
                given = (self.headers.get("authorization") or "").removeprefix("Bearer ")
                try:
                    status, content, headers = owner.handle(self.command, self.path, body, given, dict(self.headers.items()))
                except Exception as error:
                    status, content, headers = 500, {"error": repr(error)}, {}
                owner.log.append((self.command, self.path, status))
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                if isinstance(content, dict) and "error" in content:
                    self.send_header("x-error-message", content["error"])
                for name, value in headers.items():
                    self.send_header(name, value)
                if "content-length" not in {h.lower() for h in headers}:
                    self.send_header("content-length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_HEAD = answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        """What is in a branch but what the Hub put there."""
        return {p: d for p, d in self.repos[repo].branches[branch].items() if p != ".gitattributes"}

    # --- the protocol -------------------------------------------------------------------------------------------------

    def handle(
        self, method: str, target: str, body: bytes, token: str, headers: dict[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(target)
        path = [unquote(p) for p in parts.path.strip("/").split("/")]
        if path[0] == "lfs":
            return self._lfs(method, path[1:], body)
        if token and token not in (self.token, *self.readers):
            return 401, {"error": "Invalid user token."}, {}
        writes = token == self.token
        if path == ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}, {}
        if path == ["api", "whoami-v2"]:
            return (200, {"name": "user", "type": "user"}, {}) if token else (401, {"error": "no token"}, {})
        if path == ["api", "repos", "create"]:
            return self._create(json.loads(body), writes, bool(token))
        if path[:2] == ["api", "datasets"]:
            name, rest = "/".join(path[2:4]), path[4:]
        elif path[0] == "datasets":
            name, rest = "/".join(path[1:3]), path[3:]
        else:
            return 404, {"error": f"no {target}"}, {}
        name = name.removesuffix(".git")
        repo = self.repos.get(name)
        if repo is None or (repo.visibility == "private" and not token):
            return 404, {"error": "Repository not found"}, {"x-error-code": "RepoNotFound"}
        if method == "POST" and rest[:1] != ["paths-info"] and not writes:
            return 403, {"error": "You don't have the rights to write"}, {}
        what = rest[0] if rest else "revision"
        if what == "branch":
            if rest[1] in repo.branches:
                return 409, {"error": "Reference already exists"}, {}
            repo.branches[rest[1]] = dict(repo.branches["main"])
            return 200, {}, {}
        if what == "info":
            return self._batch(json.loads(body))
        branch = repo.branch(rest[1] if len(rest) > 1 else "main")
        if branch is None:
            return 404, {"error": f"Invalid rev id: {rest[1]}"}, {"x-error-code": "RevisionNotFound"}
        files = repo.branches[branch]
        if what == "revision":
            return 200, {"id": name, "sha": repo.sha(branch), "private": repo.visibility == "private", "siblings": [{"rfilename": p} for p in files], "tags": []}, {}  # fmt: skip
        if what == "tree":
            below = "/".join(rest[2:])
            return 200, _tree(files, below, "recursive" in parts.query and "recursive=false" not in parts.query.lower()), {}
        if what == "paths-info":
            asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
            return 200, [_entry(p, files[p]) for p in asked if p in files], {}
        if what == "preupload":
            asked = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "lfs" if f["size"] > self.lfs_over else "regular", "shouldIgnore": False, "oid": _blob(files[f["path"]]) if f["path"] in files else None} for f in asked]}, {}  # fmt: skip
        if what == "commit":
            return self._commit(name, repo, branch, body)
        if what == "resolve":
            return self._resolve(repo, branch, "/".join(rest[2:]), headers)
        return 404, {"error": f"no {target}"}, {}

    def _create(self, asked: dict[str, Any], writes: bool, known: bool) -> tuple[int, Any, dict[str, str]]:
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        if not known:
            return 401, {"error": "Invalid username or password."}, {}
        if not writes or name.split("/")[0] not in (self.namespace, "user"):
            return 403, {"error": f"You don't have the rights to create a dataset under the namespace {name.split('/')[0]!r}"}, {}
        if name in self.repos:
            return 409, {"error": "You already created this dataset repo", "url": f"{self.url}/datasets/{name}"}, {}
        self.repos[name] = Repo(asked.get("visibility") or "public")
        return 200, {"url": f"{self.url}/datasets/{name}", "name": name}, {}

    def _batch(self, asked: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        objects = []
        for one in asked["objects"]:
            about = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.objects:
                upload: dict[str, Any] = {"href": f"{self.url}/lfs/{one['oid']}"}
                if self.part_size is not None:
                    count = -(-one["size"] // self.part_size)
                    urls = {f"{n:05d}": f"{self.url}/lfs/{one['oid']}/{n}" for n in range(1, count + 1)}
                    upload = {
                        "href": f"{self.url}/lfs/{one['oid']}/complete",
                        "header": {"chunk_size": str(self.part_size), **urls},
                    }
                about["actions"] = {"upload": upload, "verify": {"href": f"{self.url}/lfs/{one['oid']}/verify"}}
            objects.append(about)
        return 200, {"transfer": "multipart" if self.part_size else "basic", "objects": objects}, {}

    def _lfs(self, method: str, path: list[str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        oid, step = path[0], path[1] if len(path) > 1 else None
        if method == "PUT":
            if step is not None:
                self._parts.setdefault(oid, {})[int(step)] = body
                return 200, b"", {"etag": hashlib.md5(body).hexdigest()}
            return self._keep(oid, body)
        if step == "complete":
            parts = self._parts.pop(oid)
            return self._keep(oid, b"".join(parts[n] for n in sorted(parts)))
        return (200, {}, {}) if oid in self.objects else (404, {"error": "no such object"}, {})

    def _keep(self, oid: str, data: bytes) -> tuple[int, Any, dict[str, str]]:
        data = data[:-1] + b"?" if self.corrupt else data
        if hashlib.sha256(data).hexdigest() != oid:
            return 422, {"error": "The SHA-256 of what arrived is not the oid"}, {}
        self.objects[oid] = data
        return 200, {}, {}

    def _commit(self, name: str, repo: Repo, branch: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        files = dict(repo.branches[branch])
        about: dict[str, Any] = {}
        for line in body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                about = value
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if len(self.objects.get(value["oid"], b"")) != value["size"]:
                    return 400, {"error": f"LFS object {value['oid']} of {value['path']} was not uploaded"}, {}
                files[value["path"]] = self.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        repo.branches[branch] = files
        sha = repo.sha(branch)
        repo.commits.append({**about, "branch": branch, "sha": sha})
        return 200, {"success": True, "commitUrl": f"{self.url}/datasets/{name}/commit/{sha}", "commitOid": sha}, {}

    def _resolve(self, repo: Repo, branch: str, path: str, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        data = repo.branches[branch].get(path)
        if data is None:
            return 404, {"error": "Entry not found"}, {"x-error-code": "EntryNotFound"}
        about = {"etag": f'"{hashlib.sha256(data).hexdigest()}"', "x-repo-commit": repo.sha(branch), "accept-ranges": "bytes", "content-length": str(len(data))}  # fmt: skip
        wanted = {k.lower(): v for k, v in headers.items()}.get("range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted[6:].partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(data), len(data))
            part = data[start:stop]
            return (
                206,
                part,
                {**about, "content-length": str(len(part)), "content-range": f"bytes {start}-{stop - 1}/{len(data)}"},
            )
        return 200, data, about


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}


def _tree(files: dict[str, bytes], below: str, recursive: bool) -> list[dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    start = f"{below}/" if below else ""
    for path, data in files.items():
        if not path.startswith(start):
            continue
        names = path[len(start) :].split("/")
        for depth in range(1, len(names)):
            folder = start + "/".join(names[:depth])
            if recursive or depth == 1:
                out[folder] = {"type": "directory", "path": folder, "size": 0, "oid": hashlib.sha1(folder.encode()).hexdigest()}
        if recursive or len(names) == 1:
            out[path] = _entry(path, data)
    return list(out.values())
