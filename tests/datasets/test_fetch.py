"""Downloads from a server of this process that misbehaves on request."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from phasevae import InputError
from phasevae.datasets import fetch

CONTENT = np.random.default_rng(0).bytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        start = int((re.findall(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0])[0])
        server.starts.append(start)
        status = server.statuses.pop(0) if server.statuses else None
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = start if server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        time.sleep(server.pause)
        # A cut connection: fewer bytes than announced.
        self.wfile.write(server.content[start : start + server.cut])

    def log_message(self, *_args):
        pass


@pytest.fixture
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.content, httpd.ranges, httpd.cut, httpd.statuses, httpd.starts = CONTENT, True, len(CONTENT), [], []
    httpd.pause = 0.0
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/file.bin"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def fetched(server, folder, sha256=SHA256):
    return fetch.fetched(server.url, len(CONTENT), sha256, folder)


def test_fetched_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PHASEVAE_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        path = fetch.fetched(server.url, len(CONTENT), SHA256)
        assert path == tmp_path / "cache" / "file.bin"
        assert path.read_bytes() == CONTENT
    assert server.starts == [0]
    assert sorted(file.name for file in path.parent.iterdir()) == ["file.bin", "file.bin.lock"]


def test_several_processes_share_one_download(server, tmp_path):
    server.pause = 0.2
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(lambda _: fetched(server, tmp_path), range(3)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert server.starts == [0]


def test_a_cache_that_others_filled_is_only_read(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin"] and server.starts == []


def test_broken_connections_are_resumed(server, tmp_path):
    server.cut = 30_000
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    # What had arrived is kept, but for the last incomplete piece.
    assert server.starts == [0, 16384, 32768, 49152, 65536, 81920]


def test_a_later_run_continues_an_interrupted_download(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:70_000])
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    assert server.starts == [70_000]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 70_000)
    assert fetched(server, tmp_path).read_bytes() == CONTENT


def test_failures_in_a_row_are_counted_and_waited_for(server, tmp_path):
    waits = []
    server.statuses = [503] * 3
    fetch.resume(server.url, tmp_path / "p", len(CONTENT), waits.append)
    assert (tmp_path / "p").read_bytes() == CONTENT
    assert waits == [1, 2, 4]
    server.statuses = [503] * 100
    with pytest.raises(InputError, match=r"file.bin: cannot be fetched \(the server answers 503\)"):
        fetch.resume(server.url, tmp_path / "q", len(CONTENT), waits.append)
    assert len(waits) == 3 + fetch.RETRIES


def test_refusal_is_final(server, tmp_path):
    server.statuses = [404]
    with pytest.raises(InputError, match=r"file.bin: the server answers 404"):
        fetched(server, tmp_path)
    assert server.starts == [0]


def test_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    server.content = bytes(len(CONTENT))
    with pytest.raises(InputError, match=f"checksum of what was received is wrong, must be sha256 {SHA256}"):
        fetched(server, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin.lock"]


def test_longer_than_it_should_be(server, tmp_path):
    server.content = CONTENT + b"more"
    server.cut = len(server.content)
    with pytest.raises(InputError, match="is longer than 100000 bytes"):
        fetched(server, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin.lock"]


def test_no_route_to_the_host(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "RETRIES", 0)
    with socket.socket() as bound:  # a port that nobody listens on
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/file.bin"
        with pytest.raises(InputError, match=r"cannot be fetched .no route to the host.*give a local copy") as caught:
            fetch.fetched(url, 10, SHA256, tmp_path)
    assert "\n" not in str(caught.value)


def test_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="file/cache: cannot be written"):
        fetched(server, tmp_path / "file" / "cache")
