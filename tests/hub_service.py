"""The Hugging Face Hub on the loopback: the part for publishing and for loading what was published.

    with Hub() as hub:                                     # hub.url goes into HF_ENDPOINT
        hub.fail = lambda method, path: 403 if path.endswith("/create") else None
    hub.repos["model", "me/kl"].files["README.md"]         # bytes
    hub.requests                                           # [("POST", "/api/repos/create"), …]

Every request needs the token; an error that a test asks for repeats the token sent, as services may. Large files go
through LFS. A path that is not supported answers 404 and is listed in `requests`.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_TESTdoNotShow7f3e91c2AbCd"
LARGE = (".safetensors", ".parquet")
LICENCES = {"unknown", "mit", "cc-by-4.0"}
KINDS = {"models": "model", "datasets": "dataset"}


@dataclass
class Repo:
    kind: str
    name: str
    private: bool
    states: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.bin filter=lfs\n"}])
    messages: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Files of the last commit, without those that the Hub makes."""
        return {name: content for name, content in self.states[-1].items() if name != ".gitattributes"}

    @property
    def head(self) -> str:
        return hashlib.sha1(f"{self.kind} {self.name} {len(self.states)}".encode()).hexdigest()

    @property
    def tags(self) -> list[str]:
        parts = self.states[-1].get("README.md", b"").decode().split("---\n")
        return yaml.safe_load(parts[1]).get("tags", []) if len(parts) > 2 else []

    def about(self) -> dict[str, Any]:
        siblings = [{"rfilename": name} for name in self.states[-1]]
        return {"id": self.name, "sha": self.head, "private": self.private, "tags": self.tags, "siblings": siblings}


class Hub:
    """Listens within its context."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], int | None] = lambda method, path: None

    def __enter__(self) -> Self:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, content = hub.reply(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = answer

            def log_message(self, *arguments: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- requests ----------------------------------------------------------------------------------------------------

    def reply(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(url)
        path = unquote(parts.path)
        self.requests.append((method, path))
        status = self.fail(method, path)
        said = {name.lower(): value for name, value in headers.items()}.get("authorization", "nobody")
        if status is None and said != f"Bearer {TOKEN}" and not path.startswith("/lfs/"):
            status = 401
        if status is not None:
            return refused(status, f"{status} for {said}")
        try:
            return self.found(method, path.strip("/").split("/"), parse_qs(parts.query), body)
        except KeyError:
            return refused(404, "no such thing", "RepoNotFound")

    def found(
        self, method: str, path: list[str], query: dict[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        match path:
            case ["api", "repos", "create"]:
                return self.create(json.loads(body))
            case ["api", "validate-yaml"]:
                return self.validate(json.loads(body)["content"])
            case ["lfs", oid]:
                assert hashlib.sha256(body).hexdigest() == oid
                self.large[oid] = body
                return told({})
            case ["api", kinds] if kinds in KINDS:
                return told([repo.about() for repo in self.matching(KINDS[kinds], query)])
            case ["api", kinds, owner, name, *rest]:
                return self.of_repo(self.repos[KINDS[kinds], f"{owner}/{name}"], rest, body)
        kind = "dataset" if path[0] == "datasets" else "model"
        owner, name, *rest = path[kind == "dataset" :]
        repo = self.repos[kind, f"{owner}/{name.removesuffix('.git')}"]
        if rest[:2] == ["info", "lfs"]:
            return told({"transfer": "basic", "objects": [self.place(one) for one in json.loads(body)["objects"]]})
        assert rest[0] == "resolve", path
        return self.content(repo, "/".join(rest[2:]))

    def create(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        key = asked.get("type") or "model", f"{asked['organization']}/{asked['name']}"
        found = {"url": f"{self.url}/{'datasets/' if key[0] == 'dataset' else ''}{key[1]}"}
        if key in self.repos:
            return told(found | {"error": "You already created this repo"}, 409)
        self.repos[key] = Repo(*key, private=asked["visibility"] == "private")
        return told(found)

    def validate(self, card: str) -> tuple[int, dict[str, str], bytes]:
        licence = yaml.safe_load(card.split("---\n")[1]).get("license")
        if licence in LICENCES:
            return told({"errors": [], "warnings": []})
        return told({"errors": [{"message": f'"license" must not be {licence}'}], "warnings": []}, 400)

    def matching(self, kind: str, query: dict[str, list[str]]) -> Iterator[Repo]:
        for repo in self.repos.values():
            if repo.kind == kind and repo.name.split("/")[0] == query["author"][0]:
                if set(query.get("filter", [])) <= set(repo.tags):
                    yield repo

    def of_repo(self, repo: Repo, path: list[str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        match path:
            case [] | ["revision", _]:
                return told(repo.about())
            case ["auth-check"]:
                return told({})
            case ["preupload", _]:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in names}
                files = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
                return told({"files": files})
            case ["commit", _]:
                return self.commit(repo, [json.loads(line) for line in body.splitlines()])
            case ["tree", _, *folder]:
                return told(entries(repo, "/".join(folder)))
            case ["paths-info", _]:
                return told([file_entry(repo, name) for name in parse_qs(body.decode())["paths"] if name in repo.files])
        raise KeyError(path)

    def place(self, asked: dict[str, Any]) -> dict[str, Any]:
        upload = {"upload": {"href": f"{self.url}/lfs/{asked['oid']}"}}
        return asked | ({} if asked["oid"] in self.large else {"actions": upload})

    def commit(self, repo: Repo, lines: list[dict[str, Any]]) -> tuple[int, dict[str, str], bytes]:
        state, parent = dict(repo.states[-1]), lines[0]["value"].get("parentCommit", repo.head)
        if parent != repo.head:
            return refused(412, "A commit has happened since")
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del state[value["path"]]
            else:
                large = line["key"] == "lfsFile"
                state[value["path"]] = self.large[value["oid"]] if large else base64.b64decode(value["content"])
        repo.states.append(state)
        repo.messages.append(lines[0]["value"]["summary"])
        return told({"commitOid": repo.head, "commitUrl": f"{self.url}/{repo.name}/commit/{repo.head}"})

    def content(self, repo: Repo, name: str) -> tuple[int, dict[str, str], bytes]:
        if name not in repo.states[-1]:
            return refused(404, f"no {name}", "EntryNotFound", {"X-Repo-Commit": repo.head})
        found = repo.states[-1][name]
        return 200, {"X-Repo-Commit": repo.head, "ETag": f'"{hashlib.sha256(found).hexdigest()}"'}, found


def entries(repo: Repo, folder: str) -> list[dict[str, Any]]:
    """Files below a folder, and their folders."""
    inside = [name for name in repo.files if name.startswith(f"{folder}/" if folder else "")]
    folders = {"/".join(name.split("/")[:depth]) for name in inside for depth in range(1, name.count("/") + 1)}
    found = [{"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(folders) if name != folder]
    return [*found, *(file_entry(repo, name) for name in inside)]


def file_entry(repo: Repo, name: str) -> dict[str, Any]:
    content = repo.files[name]
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def told(value: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def refused(
    status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """An error as the Hub words it."""
    own = {"X-Error-Message": message, "Content-Type": "application/json", **({"X-Error-Code": code} if code else {})}
    return status, own | (headers or {}), json.dumps({"error": message}).encode()
