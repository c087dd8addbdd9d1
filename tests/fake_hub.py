"""Fixtures for what is found on the hub or on disk: a small hub, no network, a tokenizer of words."""

import base64
import http.server
import json
import socket
import threading
from pathlib import Path

import pytest

NOBODY_LISTENS = "http://127.0.0.1:9"


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to open a connection fails the test."""

    def refuse(*args, **kwargs):
        pytest.fail(f"tried to reach the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def use_hub(monkeypatch, tmp_path):
    """Gives the hub another address (by default one where nobody listens) and an empty cache."""

    def use(endpoint: str = NOBODY_LISTENS) -> None:
        url = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache of the hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)

    return use


@pytest.fixture
def offline(use_hub):
    """An empty cache of the hub, and a hub where nobody listens."""
    use_hub()


@pytest.fixture
def silent_hub(use_hub):
    """A hub that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        use_hub(f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield


@pytest.fixture
def hub_server(use_hub):
    """Serves a folder as the hub serves a repository: the few requests that a snapshot download makes.

    Call it with (folder, "models" | "datasets", repository, revision); it returns the paths asked for, a list
    that grows as requests come in.
    """
    servers = []

    def start(folder: Path, kind: str, repository: str, revision: str) -> list[str]:
        asked: list[str] = []
        resolve = f"{'' if kind == 'models' else '/' + kind}/{repository}/resolve/{revision}/"
        files = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*")) if f.is_file()}
        oid = {name: f"{i:040x}" for i, name in enumerate(files)}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                asked.append(path)
                if path == f"/api/{kind}/{repository}/tree/{revision}":
                    tree = [
                        {"type": "file", "path": name, "size": file.stat().st_size, "oid": oid[name]}
                        for name, file in files.items()
                    ]
                    self.answer(json.dumps(tree).encode(), {"Content-Type": "application/json"})
                elif (name := path.removeprefix(resolve)) in files:
                    headers = {"ETag": f'"{oid[name]}"', "X-Repo-Commit": revision}
                    self.answer(files[name].read_bytes(), headers)
                else:
                    self.send_error(404)

            do_HEAD = do_GET

            def answer(self, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(200)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *args) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        use_hub(f"http://127.0.0.1:{server.server_port}")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def word_tokenizer():
    """Makes a tokenizer of whole words from sentences [(first, second), …]."""
    from analog_glue.models import TinyModel

    tiny = TinyModel(hidden=8, layers=1, heads=1, intermediate=8, vocabulary_size=1000, dropout=0.0)
    return lambda texts: tiny.load(2, 0, texts).tokenizer


@pytest.fixture
def hub_that_takes(use_hub, monkeypatch):
    """A hub that repositories can be made on and files be sent to: the requests of `create_repo` and `upload_folder`.

    It is a list of what was asked, and has `repositories`: name → {"private": …, "files": {path: content}}. A token is there.
    """
    taken = Taken()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            taken.append((self.command, self.path))
            name = "/".join(self.path.split("/")[3:5])
            if self.path == "/":
                self.answer(200, {})
            elif name in taken.repositories:
                self.answer(200, {"id": name, "private": taken.repositories[name]["private"], "siblings": [], "tags": []})
            else:
                self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.command, self.path))
            taken.tokens.append(self.headers.get("Authorization"))
            name = "/".join(self.path.split("/")[3:5])
            if taken.refuses:
                self.answer(403, {"error": "This token may not write here"})
            elif self.path == "/api/repos/create":
                asked = json.loads(body)
                named = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                private = asked.get("private", asked.get("visibility") == "private")  # versions 1 and 2 of the library
                taken.repositories.setdefault(named, {"private": private, "files": {}})
                self.answer(200, {"url": f"http://{self.headers['Host']}/{named}", "name": named})
            elif "/preupload/" in self.path:
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
                ]
                self.answer(200, {"files": files})
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        taken.repositories[name]["files"][line["value"]["path"]] = content
                url = f"http://{self.headers['Host']}/{name}/commit/abc"
                self.answer(200, {"commitUrl": url, "commitOid": "abc", "success": True, "pullRequestUrl": None})
            else:
                self.answer(200, {"errors": [], "warnings": []})

        def answer(self, status: int, said: dict, headers: dict[str, str] | None = None) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            named = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            for key, value in (named | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    use_hub(f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    yield taken
    server.shutdown()
    server.server_close()


class Taken(list):
    """What a hub was asked, and what it holds."""

    def __init__(self):
        self.repositories, self.tokens, self.refuses = {}, [], False
