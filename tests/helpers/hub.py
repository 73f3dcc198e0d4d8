"""A hub of one's own on loopback, which speaks as much of the Hugging Face Hub's HTTP as up- and downloads need."""

import base64
import contextlib
import dataclasses
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclasses.dataclass
class Hub:
    """What the hub holds and how it misbehaves.

    `files` maps a path such as "timm/crossvit_9_240.in1k/model.safetensors" to its bytes. `declared_hash` replaces the
    true hash; the first `broken_transfers` answers end after `break_after` bytes; with `short_by` every answer is that
    much shorter than declared. `requests` records method, path and the Range asked for.
    """

    files: dict
    declared_hash: str | None = None
    broken_transfers: int = 0
    break_after: int = 0
    short_by: int = 0
    status_of_unknown: int = 404
    refused_login: bool = False
    created: dict = dataclasses.field(default_factory=dict)
    requests: list = dataclasses.field(default_factory=list)
    url: str = ""

    def transfers(self, name):
        """The Range that each request for a file's content asked for; None is all of it."""
        wanted = ("GET", f"/content/{name}")
        return [requested_range for *request, requested_range in self.requests if tuple(request) == wanted]


@contextlib.contextmanager
def served(hub):
    """Serves the hub on a free port of loopback as long as the context lasts."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        if self.path == "/api/whoami-v2":
            self._send_json({"name": "me", "type": "user", "orgs": []}, 401 if self.hub.refused_login else 200)
        elif self.path.startswith("/api/models/") and ("/revision/" in self.path or "/tree/" in self.path):
            prefix = self._repository() + "/"
            files = [
                {"type": "file", "oid": "0", "path": name.removeprefix(prefix), "size": len(content)}
                for name, content in self.hub.files.items()
                if name.startswith(prefix)
            ]
            siblings = [{"rfilename": each["path"]} for each in files]
            self._send_json(
                files if "/tree/" in self.path else {"id": prefix[:-1], "sha": COMMIT, "siblings": siblings}
            )
        else:
            self._answer(with_body=True)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            kind = "spaces/" if asked.get("type") == "space" else ""
            name = (
                kind + f"{asked['organization']}/{asked['name']}" if asked.get("organization") else kind + asked["name"]
            )
            self.hub.created[name] = asked
            self._send_json({"url": f"{self.hub.url}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._send_json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self._send_json({"files": modes})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.hub.files[f"{self._repository()}/{line['value']['path']}"] = content
            commit = f"{self.hub.url}/{self._repository()}/commit/{COMMIT}"
            self._send_json({"commitUrl": commit, "commitOid": COMMIT, "success": True})

    def _repository(self):
        kind, owner, name = self.path.removeprefix("/api/").split("/")[:3]
        return f"spaces/{owner}/{name}" if kind == "spaces" else f"{owner}/{name}"

    def _send_json(self, value, status=200):
        body = json.dumps(value).encode()
        self._send(status, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _answer(self, *, with_body):
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        name = (
            self.path.strip("/").replace("resolve/main/", "").replace(f"resolve/{COMMIT}/", "").removeprefix("content/")
        )
        if name not in self.hub.files:
            self._send(self.hub.status_of_unknown, {"X-Error-Code": "RepoNotFound"})
        elif self.path.startswith("/content/"):
            self._send_content(self.hub.files[name], with_body=with_body)
        else:  # as the hub does for large files: what it is, and where it lies
            content = self.hub.files[name]
            declared = self.hub.declared_hash or hashlib.sha256(content).hexdigest()
            self._send(
                302,
                {
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-ETag": f'"{declared}"',
                    "X-Linked-Size": str(len(content)),
                    # By another name of the same machine: the client takes a redirection to its own host for a new
                    # name of the repository.
                    "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/content/{name}",
                },
            )

    def _send_content(self, content, *, with_body):
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        body = content[start : len(content) - self.hub.short_by]
        headers = {"Content-Length": str(len(body)), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, headers)
        if not with_body:
            return
        if self.hub.broken_transfers:
            self.hub.broken_transfers -= 1
            self.wfile.write(body[: self.hub.break_after])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _send(self, status, headers):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
