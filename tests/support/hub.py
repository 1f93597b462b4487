"""A hub on this machine: the part of the Hugging Face hub's API that an upload and a download use.

Repositories are dicts in memory: commits are lists of files. Large files come by Git LFS, by the
basic transfer. Xet is not spoken.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN, USER = "hf_of_this_test", "us"
#: Licences of which the hub's list has more.
LICENSES = {"mit", "apache-2.0", "cc-by-4.0", "other"}


class Hub:
    """The hub's state, and what it was asked.

    url: its address.
    repos: by name: branches, and the commits by their ids. A commit has the bytes of each file.
    lfs: large files by the SHA-256 of their content.
    calls: method and path of each request.
    refusals: (pattern of method and path, status, message); a matching request gets these.
    """

    def __init__(self):
        self.url = ""
        self.repos, self.lfs, self.calls, self.refusals = {}, {}, [], []
        self.lock = threading.Lock()

    def make(self, name, files=(), private=None):
        """Make a repository, with the files of its first commit."""
        self.repos[name] = {"branches": {}, "commits": {}, "private": private}
        self.commit(name, "main", {".gitattributes": b"*.bin filter=lfs\n", **dict(files)})

    def commit(self, name, branch, files):
        repo = self.repos[name]
        text = repr([name, len(repo["commits"]), sorted(files.items())]).encode()
        oid = hashlib.sha1(text).hexdigest()
        repo["commits"][oid] = files
        repo["branches"][branch] = oid
        return oid

    def files(self, name, revision="main"):
        """The id of a commit and its files; None for one that is not there."""
        repo = self.repos.get(name)
        oid = repo and repo["branches"].get(revision, revision)
        return (oid, repo["commits"][oid]) if repo and oid in repo["commits"] else None

    def commits(self, name):
        """Number of commits of a repository, its first one left out."""
        return len(self.repos[name]["commits"]) - 1


@contextmanager
def running_hub():
    """Run a hub on a free port, until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def card_errors(text):
    """What is wrong with the metadata of a card, as the hub says it."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    data = yaml.safe_load(found[1]) if found else {}
    errors = []
    if data.get("license") not in {None, *LICENSES}:
        errors.append('"license" must be one of the list')
    for index in data.get("model-index", []):
        for result in index["results"]:
            has_dataset = {"type", "name"} <= result.get("dataset", {}).keys()
            if not index.get("name") or not result.get("task", {}).get("type") or not has_dataset:
                errors.append('"model-index" has a result without task or dataset')
            if not all({"type", "value"} <= metric.keys() for metric in result["metrics"]):
                errors.append('"model-index" has a metric without type or value')
    return errors


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *_):
        pass

    def answer(self, status, data=b"", **headers):
        if not isinstance(data, bytes):
            data, headers = json.dumps(data).encode(), {"Content-Type": "application/json"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status, message, code=""):
        headers = {"X_Error_Message": message, **({"X_Error_Code": code} if code else {})}
        self.answer(status, json.dumps({"error": message}).encode(), **headers)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def handle_one(self):
        body = self.body()
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.calls.append(f"{self.command} {path}")
            for pattern, status, message in self.hub.refusals:
                if re.search(pattern, f"{self.command} {path}"):
                    return self.refuse(status, message)
            if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.refuse(401, "Invalid credentials in Authorization header")
            for method, pattern, action in _ROUTES:
                if method == self.command and (found := re.fullmatch(pattern, path)):
                    return action(self, body, *found.groups())
        return self.refuse(404, "no such page")

    do_GET = do_POST = do_PUT = do_HEAD = handle_one

    # Uploads

    def create(self, body):
        wish = json.loads(body)
        name = f"{wish['organization'] or USER}/{wish['name']}"
        if wish["organization"] not in (None, USER):
            return self.refuse(403, f"You don't have the rights to create a model under {name}")
        if name in self.hub.repos:
            return self.refuse(409, "You already created this model repo")
        private = wish.get("private", wish.get("visibility") == "private")
        self.hub.make(name, private=private)
        self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": "1"})

    def branch(self, _, name, branch):
        if branch in self.hub.repos[name]["branches"]:
            return self.refuse(409, "Reference already exists")
        self.hub.repos[name]["branches"][branch] = self.hub.repos[name]["branches"]["main"]
        self.answer(200, {})

    def validate(self, body):
        errors = [{"message": text} for text in card_errors(json.loads(body)["content"])]
        self.answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, body, name, revision):
        _, files = self.hub.files(name, revision)
        rows = []
        for file in json.loads(body)["files"]:
            path, size = file["path"], file["size"]
            large = size > 1000 and any(
                fnmatch(path.split("/")[-1], p) for p in ("*.whl", "*.pt", "model", "*.json")
            )
            row = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if path in files:
                digest = hashlib.sha256(files[path]).hexdigest() if large else blob(files[path])
                row["oid"] = digest
            rows.append(row)
        self.answer(200, {"files": rows})

    def batch(self, body, name):
        wish = json.loads(body)
        assert "xet" not in wish["transfers"], "Xet is not spoken here"
        objects = []
        for one in wish["objects"]:
            action = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}?signature=secret"}}
            action["verify"] = {"href": f"{self.hub.url}/lfs/verify"}
            objects.append(one | ({} if one["oid"] in self.hub.lfs else {"actions": action}))
        self.answer(200, {"transfer": "basic", "objects": objects})

    def put(self, body, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.lfs[oid] = body
        self.answer(200)

    def verify(self, body):
        found = json.loads(body)
        self.answer(200 if len(self.hub.lfs.get(found["oid"], b"")) == found["size"] else 404)

    def commit(self, body, name, revision):
        old = self.hub.files(name, revision)
        if old is None:
            return self.refuse(404, "Revision Not Found", "RevisionNotFound")
        files = dict(old[1])
        for line in body.decode().splitlines():
            kind, value = (json.loads(line)[key] for key in ("key", "value"))
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        oid = self.hub.commit(name, revision, files)
        url = f"{self.hub.url}/{name}/commit/{oid}"
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": url})

    # Downloads

    def info(self, _, name, revision="main"):
        found = self.hub.files(name, revision)
        if found is None:
            return self.refuse(404, "Repository not found", "RepoNotFound")
        siblings = [{"rfilename": path} for path in found[1]]
        self.answer(200, {"id": name, "modelId": name, "sha": found[0], "siblings": siblings,
                          "private": False, "tags": [], "downloads": 0})  # fmt: skip

    def tree(self, _, name, revision, __=""):
        found = self.hub.files(name, revision)
        if found is None:
            return self.refuse(404, "Revision Not Found", "RevisionNotFound")
        self.answer(200, [
            {"type": "file", "path": path, "size": len(data), "oid": blob(data)}
            for path, data in found[1].items()
        ])  # fmt: skip

    def resolve(self, _, name, revision, path):
        found = self.hub.files(name, revision)
        if found is None or path not in found[1]:
            return self.refuse(404, "Entry not found", "EntryNotFound")
        self.answer(200, found[1][path], X_Repo_Commit=found[0], ETag=f'"{blob(found[1][path])}"')


def blob(data):
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data)).hexdigest()


_ID = r"([^/]+/[^/]+)"
_ROUTES = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_ID}/branch/(.+)", _Handler.branch),
    ("POST", rf"/api/models/{_ID}/preupload/(.+)", _Handler.preupload),
    ("POST", rf"/api/models/{_ID}/commit/(.+)", _Handler.commit),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/(\w+)", _Handler.put),
    ("POST", r"/lfs/verify", _Handler.verify),
    ("GET", rf"/api/models/{_ID}/tree/([^/]+)(/?)", _Handler.tree),
    ("GET", rf"/api/models/{_ID}/revision/(.+)", _Handler.info),
    ("GET", rf"/api/models/{_ID}", _Handler.info),
    ("GET", rf"/{_ID}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("HEAD", rf"/{_ID}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
