"""Downloads from a server of our own that breaks off, cannot resume, or has another file."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mim3d.cli import main
from mim3d.data.datasets import DATASETS
from mim3d.data.download import PublicFile, fetch
from mim3d.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves `content`, cutting every connection after `limit` bytes."""

    content = CONTENT
    limit = 1_000_000
    resumes = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/files/digits.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.resumes else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start : start + server.limit])

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def public(url, content=CONTENT):
    return PublicFile(url, hashlib.md5(content).hexdigest())


def test_goes_on_where_the_connection_was_cut(server, tmp_path):
    server.limit = 120_000
    seen = []
    path = fetch(public(server.url), tmp_path / "new", lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "new" / "digits.gz"
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=120000-", "bytes=240000-"]
    assert seen[-1] == (300_000, 300_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [file.name for file in path.parent.iterdir()] == ["digits.gz"]
    fetch(public(server.url), tmp_path / "new")
    assert len(server.ranges) == 3


def test_goes_on_with_what_an_earlier_command_left(server, tmp_path):
    (tmp_path / "digits.gz.part").write_bytes(CONTENT[:200_000])
    assert fetch(public(server.url), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=200000-"]


def test_everything_had_come_but_the_last_step(server, tmp_path):
    (tmp_path / "digits.gz.part").write_bytes(CONTENT)
    assert fetch(public(server.url), tmp_path).read_bytes() == CONTENT


def test_starts_over_where_the_server_cannot_resume(server, tmp_path):
    (tmp_path / "digits.gz.part").write_bytes(b"x" * 200_000)
    server.resumes = False
    assert fetch(public(server.url), tmp_path).read_bytes() == CONTENT


def test_another_file_is_refused_and_removed(server, tmp_path):
    server.content = b"<html>moved</html>"
    with pytest.raises(UserError, match="checksum is another"):
        fetch(public(server.url), tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "digits.gz").write_bytes(b"mine")
    with pytest.raises(UserError, match="is there but is not the published file"):
        fetch(public(server.url), tmp_path)
    assert (tmp_path / "digits.gz").read_bytes() == b"mine"


def test_offline_is_one_clear_line(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=r"cannot download digits.gz from 127.0.0.1.*offline.*goes on from"):
        fetch(public(f"http://127.0.0.1:{port}/digits.gz"), tmp_path)


def test_the_command_downloads_every_public_file(server, tmp_path, monkeypatch, capsys):
    card = DATASETS["moving-mnist"]
    monkeypatch.setitem(
        DATASETS, "moving-mnist", type(card)(**{**vars(card), "public_files": (public(server.url),)})
    )
    server.limit = 200_000
    assert main(["data", "download", "moving-mnist", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT
    assert f"there are {tmp_path / 'digits.gz'}" in capsys.readouterr().out
    assert main(["data", "download", "taxibj", "--output", str(tmp_path)]) == 2
    assert "taxibj has no files that anybody may download" in capsys.readouterr().err


def test_every_public_file_has_a_checksum_and_a_place():
    for card in DATASETS.values():
        for file in card.public_files:
            assert len(bytes.fromhex(file.md5)) == 16
            assert file.url.startswith(("http://", "https://"))
            assert file.name in file.url
