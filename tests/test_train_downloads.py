"""What may come from a network, and how; which parts of the project may ask for it."""

import ast
import http.server
import re
import threading
from pathlib import Path

import pytest

from adam_minibatch_noise.errors import InputError
from train.runtime import downloads

ROOT = Path(__file__).parent.parent
SOURCES = [
    path for package in ("sim", "train", "analysis", "bench") for path in (ROOT / package).rglob("*.py")
]
NETWORK = {
    "socket",
    "ssl",
    "urllib",
    "http",
    "ftplib",
    "requests",
    "urllib3",
    "httpx",
    "aiohttp",
    "smart_open",
}
UNPACKS = {"extractall", "extract", "unpack_archive"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_one_module_alone_can_ask_a_network():
    asking = {str(path.relative_to(ROOT)) for path in SOURCES if NETWORK & set(imports(path))}
    assert asking == {"train/runtime/downloads.py"}


def test_every_address_of_a_file_is_https_and_has_a_sha256():
    found = {}
    for path in SOURCES:
        for name, url in re.findall(r'^(\w+)_URL = \(?\s*"(\w+://[^"]*)"', path.read_text(), re.MULTILINE):
            found[name] = url
            assert re.search(
                rf'^{name}_SHA256 = .*?"[0-9a-f]{{64}}"', path.read_text(), re.MULTILINE | re.DOTALL
            )
    assert {"WIKITEXT2", "CIFAR10"} <= set(found)
    assert all(url.startswith("https://") for url in found.values())


def test_archives_are_read_and_never_unpacked():
    for path in SOURCES:
        called = {
            node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
        }
        assert not called & UNPACKS, path


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/hostname", "/etc/hostname"]
)
def test_rejects_an_address_that_is_not_https(url, tmp_path):
    with pytest.raises(InputError, match="allowed: addresses that begin with https://") as caught:
        downloads.fetch(url, tmp_path / "x", 64 * "0")
    assert str(caught.value).startswith(url)
    assert list(tmp_path.iterdir()) == []


def test_rejects_https_that_leads_on_to_something_else(tmp_path, monkeypatch):
    """A server on this machine stands for the https one; its answer points to plain http."""

    asked = []

    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Redirect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        start = f"http://127.0.0.1:{server.server_port}/start"
        strict = downloads._https
        monkeypatch.setattr(downloads, "_https", lambda url: url if url == start else strict(url))
        with pytest.raises(InputError, match="/elsewhere: not fetched"):
            downloads.fetch(start, tmp_path / "x", 64 * "0")
        server.shutdown()
    assert asked == ["/start"]
    assert list(tmp_path.iterdir()) == []
