"""A Hugging Face Hub on loopback, for the real client: accounts, repositories, uploads by LFS, commits, downloads, and faults.

It answers what huggingface_hub asks, as the Hub does: status, error codes in headers, and content-addressed files. Uploads are
by LFS (``HF_HUB_DISABLE_XET``), or by Xet with the folder ``FakeHub.xet``: the Xet client is compiled code that is given a
token and the address of a storage service by the Hub, and takes a folder, ``local://``, for a service of its own.
"""

import base64
import hashlib
import json
import re
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import hf_xet

PREFIXES = {"model": "", "space": "spaces/", "dataset": "datasets/"}


@dataclass
class Commit:
    """Files as they were left by one commit."""

    sha: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repository:
    """``commits`` of main, the oldest first; ``pulls`` are open pull requests, each one commit."""

    kind: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    commits: list[Commit] = field(default_factory=list)
    pulls: list[Commit] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1].files if self.commits else {}

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        if revision.startswith("refs/pr/"):
            return self.pulls[int(revision.rpartition("/")[2]) - 1]
        return next((commit for commit in [*self.commits, *self.pulls] if commit.sha == revision), None)

    def commit(self, title: str, files: dict[str, bytes], pull: bool = False) -> Commit:
        seed = json.dumps([title, len(self.commits), len(self.pulls), sorted(files)])
        commit = Commit(hashlib.sha1(seed.encode()).hexdigest(), title, files)
        (self.pulls if pull else self.commits).append(commit)
        return commit


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests that match ``method`` and ``path``, a regular expression.

    ``status`` is answered instead of the truth, with ``headers``; without it the connection is cut: before the request
    has done anything, or ``after`` it has, so that only the reply is lost.
    """

    method: str
    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    times: int = 10**6


class FakeHub:
    """The server as a context manager; ``url`` is what HF_ENDPOINT must be."""

    def __init__(self):
        self.tokens = {"hf_owner": "someone"}  # token -> account
        self.read_only: set[str] = set()  # tokens that may not write
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.waited: list[float] = []  # seconds that the client would have waited
        self.storage: dict[str, bytes] = {}  # LFS
        self.xet: Path | None = None  # the storage service, for uploads and downloads by Xet
        self.asked: list[tuple[str, str, str | None, str]] = []  # method, path, token, user agent

    def __enter__(self) -> "FakeHub":
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, files: dict[str, bytes], **options) -> Repository:
        """A repository that is there already; ``kind`` is "model" unless given."""
        repository = self.repositories[name] = Repository(**{"kind": "model", **options})
        repository.commit("initial commit", {".gitattributes": b""})
        repository.commit("Upload", {".gitattributes": b"", **files})
        return repository


    def xet_files(self) -> dict[str, str]:
        """What Xet's storage holds: SHA-256 of a file -> the hash by which Xet knows it."""
        return {sha: name for path in self.xet.glob("xet/**/shards/*.mdb") for sha, name in _shard(path.read_bytes())} \
            if self.xet else {}

    def xet_read(self, sha: str, size: int) -> bytes:
        """A file out of Xet's storage, by the client."""
        path = self.xet / f"{sha}.read"
        with hf_xet.XetSession().new_file_download_group(
            endpoint=f"local://{self.xet}", token="", token_expiry_unix_secs=2**40
        ) as group:
            group.start_download_file(hf_xet.XetFileInfo(self.xet_files()[sha], size), str(path))
        return path.read_bytes()


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_) -> None:
        pass

    def _handle(self) -> None:
        url = urlsplit(self.path)
        self.route, self.query = unquote(url.path), parse_qs(url.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.asked.append((self.command, self.route, token, self.headers.get("User-Agent", "")))
        fault = next((f for f in self.hub.faults
                      if f.times and f.method == self.command and re.search(f.path, self.route)), None)
        if fault:
            fault.times -= 1
            if fault.status:
                return self._reply(fault.status, json.dumps({"error": "made to fail"}).encode(), fault.headers)
        if fault and not fault.after:
            return self._cut()
        try:
            self.account = self._account(token)
            status, content, headers = self._answer()
        except _Refusal as refusal:
            headers = {"X-Error-Message": refusal.message} | ({"X-Error-Code": refusal.code} if refusal.code else {})
            status, content = refusal.status, json.dumps({"error": refusal.message}).encode()
        if fault:
            return self._cut()
        self._reply(status, content, headers)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _account(self, token: str | None) -> str | None:
        if token is None:
            return None
        if token not in self.hub.tokens:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        self.token = token
        return self.hub.tokens[token]

    def _answer(self) -> tuple[int, bytes, dict[str, str]]:
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, self.route)
            if match and (method == self.command or (method == "GET" and self.command == "HEAD")):
                result = answer(self, **match.groupdict())
                return result if isinstance(result, tuple) else (200, json.dumps(result).encode(), {})
        raise _Refusal(404, f"There is no {self.command} {self.route}")

    def _repository(self, name: str, kind: str = "model", content: bool = False) -> Repository:
        """Whoever may not see a repository is told the same as where there is none; a gated one's files are refused."""
        repository = self.hub.repositories.get(name)
        hidden = repository is not None and repository.private and self.account != name.partition("/")[0]
        if repository is None or hidden or repository.kind != kind:
            raise _Refusal(401 if self.account is None else 404, "Repository not found", "RepoNotFound")
        if content and repository.gated and self.account != name.partition("/")[0]:
            raise _Refusal(403 if self.account else 401, f"Access to model {name} is restricted.", "GatedRepo")
        return repository

    def _commit(self, repository: Repository, revision: str) -> Commit:
        commit = repository.at(revision)
        if commit is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _writable(self, name: str, kind: str = "model") -> Repository:
        if self.account is None:
            raise _Refusal(401, "Invalid username or password.")
        if self.token in self.hub.read_only or self.account != name.partition("/")[0]:
            raise _Refusal(403, "You don't have the required permissions to perform this action")
        return self._repository(name, kind)

    def _whoami(self):
        if self.account is None:
            raise _Refusal(401, "Invalid username or password.")
        return {"type": "user", "name": self.account, "orgs": []}

    def _validate(self):
        return {"errors": [], "warnings": []}

    def _create(self):
        asked = json.loads(self.body)
        if self.account is None or self.token in self.hub.read_only or (asked["organization"] or self.account) != self.account:
            raise _Refusal(403, "You don't have the rights to create a repository under this namespace")
        name, kind = f"{self.account}/{asked['name']}", asked.get("type", "model")
        url = f"{self.hub.url}/{PREFIXES[kind]}{name}"
        if name in self.hub.repositories:
            return 409, json.dumps({"error": "You already created this repo", "url": url}).encode(), {}
        repository = self.hub.repositories[name] = Repository(kind, asked.get("visibility") == "private", sdk=asked.get("sdk"))
        repository.commit("initial commit", {".gitattributes": b""})
        return {"url": url}

    def _delete(self):
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or self.account}/{asked['name']}"
        self._writable(name, asked.get("type", "model"))
        del self.hub.repositories[name]
        return {}

    def _info(self, kind, name, revision="main"):
        repository = self._repository(name, kind)
        commit = self._commit(repository, revision)
        return {
            "id": name,
            "modelId": name,
            "sha": commit.sha,
            "private": repository.private,
            "gated": repository.gated and "auto",
            "tags": [],
            "siblings": [
                {
                    "rfilename": path,
                    "size": len(content),
                    "blobId": _git_hash(content),
                    **({"lfs": {"size": len(content), "sha256": _sha256(content), "pointerSize": 134}} if _large(path) else {}),
                }
                for path, content in commit.files.items()
            ],
        }

    def _tree(self, kind, name, revision):
        commit, known = self._commit(self._repository(name, kind, content=True), revision), self.hub.xet_files()
        return [{"type": "file", "path": path, "size": len(content), "oid": _git_hash(content),
                 **({"lfs": {"oid": _sha256(content), "size": len(content), "pointerSize": 134}} if _large(path) else {}),
                 **({"xetHash": known[_sha256(content)]} if _large(path) and _sha256(content) in known else {})}
                for path, content in commit.files.items()]

    def _xet_token(self, kind, name, mode, revision):
        (self._writable if mode == "write" else self._repository)(name, kind)
        where, until = f"local://{self.hub.xet}", int(time.time()) + 3600
        return 200, json.dumps({"casUrl": where, "accessToken": "xet", "exp": until}).encode(), {
            "X-Xet-Cas-Url": where, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(until)}

    def _preupload(self, kind, name, revision):
        self._writable(name, kind)
        return {
            "files": [
                {"path": file["path"], "uploadMode": "lfs" if _large(file["path"]) else "regular", "shouldIgnore": False}
                for file in json.loads(self.body)["files"]
            ]
        }

    def _batch(self, name):
        self._writable(
            name, "space" if name in self.hub.repositories and self.hub.repositories[name].kind == "space" else "model"
        )
        return {
            "transfer": "basic",
            "objects": [
                {
                    "oid": item["oid"],
                    "size": item["size"],
                    **(
                        {}
                        if item["oid"] in self.hub.storage
                        else {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}}
                    ),
                }
                for item in json.loads(self.body)["objects"]
            ],
        }

    def _store(self, oid):
        if _sha256(self.body) != oid:
            raise _Refusal(400, "The content is not what its hash says")
        self.hub.storage[oid] = self.body
        return {}

    def _send(self, kind, name, revision):
        repository = self._writable(name, kind)
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.commits[-1].sha):
            raise _Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repository.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.storage:
                    self.hub.storage[value["oid"]] = self.hub.xet_read(value["oid"], value["size"])
                files[value["path"]] = self.hub.storage[value["oid"]]
            elif line["key"] == "deletedFile":
                if value["path"] not in files:
                    raise _Refusal(400, f"There is no {value['path']}")
                del files[value["path"]]
        pull = "create_pr" in self.query
        commit = repository.commit(header["summary"], files, pull)
        return {"commitUrl": f"{self.hub.url}/{PREFIXES[kind]}{name}/commit/{commit.sha}", "commitOid": commit.sha,
                "pullRequestUrl": f"{self.hub.url}/{name}/discussions/{len(repository.pulls)}" if pull else None}

    def _discussions(self, kind, name):
        pulls = self._repository(name, kind).pulls
        return {"start": 0, "count": len(pulls), "discussions": [
            {"title": pull.title, "num": number, "author": {"name": self.account}, "isPullRequest": True, "status": "open",
             "createdAt": "2025-01-01T00:00:00.000Z", "repo": {"name": name, "type": kind}}
            for number, pull in enumerate(pulls, 1)]}

    def _resolve(self, name, revision, path, kind=None):
        commit = self._commit(self._repository(name, "dataset" if kind else "model", content=True), revision)
        if path not in commit.files:
            raise _Refusal(404, "Entry not found", "EntryNotFound")
        content = commit.files[path]
        etag = _sha256(content) if _large(path) else _git_hash(content)
        xet = self.hub.xet_files().get(etag)
        return (
            200,
            content,
            {
                "X-Repo-Commit": commit.sha,
                "ETag": f'"{etag}"',
                "Content-Type": "application/octet-stream",
                **(
                    {"X-Xet-Hash": xet, "X-Xet-Refresh-Route": f"{self.hub.url}/api/models/{name}/xet-read-token/main"}
                    if xet
                    else {}
                ),
            },
        )


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>model|space|dataset)s/{_NAME}"
_ROUTES = [
    ("GET", "/api/whoami-v2", _Handler._whoami),
    ("POST", "/api/validate-yaml", _Handler._validate),
    ("POST", "/api/repos/create", _Handler._create),
    ("DELETE", "/api/repos/delete", _Handler._delete),
    ("GET", _API, _Handler._info),
    ("GET", rf"{_API}/revision/(?P<revision>.+)", _Handler._info),
    ("GET", rf"{_API}/tree/(?P<revision>[\w./-]+?)", _Handler._tree),
    ("POST", rf"{_API}/preupload/(?P<revision>.+)", _Handler._preupload),
    ("POST", rf"{_API}/commit/(?P<revision>.+)", _Handler._send),
    ("GET", rf"{_API}/discussions", _Handler._discussions),
    ("GET", rf"{_API}/xet-(?P<mode>read|write)-token/(?P<revision>.+)", _Handler._xet_token),
    ("POST", rf"/(?:spaces/)?{_NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    ("PUT", r"/lfs/(?P<oid>\w{64})", _Handler._store),
    ("GET", rf"/(?P<kind>datasets/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler._resolve),
]


def _large(path: str) -> bool:
    """What the Hub keeps in LFS by its default .gitattributes."""
    return path.endswith((".safetensors", ".pt", ".npy", ".onnx"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _shard(content: bytes) -> list[tuple[str, str]]:
    """The files of one of Xet's shards, (SHA-256, Xet's hash): records of 48 bytes after a header of as many.

    A file is a record with its hash, flags and the number of its pieces, a record for each piece, with the first flag another
    for each, and with the second one that has the SHA-256. A hash is written as four little-endian numbers.
    """
    found, at = [], 48
    while True:
        name, flags, pieces = struct.unpack_from("<32sII", content, at)
        if name == b"\xff" * 32:
            return found
        last = at + 48 * (1 + pieces * (2 if flags >> 31 else 1))
        if flags >> 30 & 1:
            found.append((_numbers(content[last:last + 32]), _numbers(name)))
            last += 48
        at = last


def _numbers(content: bytes) -> str:
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", content))
