"""The chat server, the scraper and the TLS proxy of the examples, used as a person would."""

from __future__ import annotations

import contextlib
import http.server
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools.soak import keys

from .programs import clean_environment, python

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextlib.contextmanager
def listening(name: str, *arguments: object):
    """The port of an example that serves; it ends well at Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), line + process.stdout.read()
        yield int(line.rpartition(":")[2])
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=50)
        assert rest == "stopped\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Person:
    """Somebody at `nc`."""

    def __init__(self, port: int, name: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=50)
        self.lines = self.sock.makefile("rw", encoding="utf-8", newline="\n")
        assert self.lines.read(len("your name? ")) == "your name? "
        self.say(name)

    def say(self, line: str) -> None:
        self.lines.write(line + "\n")
        self.lines.flush()

    def hears(self) -> str:
        return self.lines.readline().rstrip("\n")

    def leave(self) -> None:
        self.lines.close()
        self.sock.close()


@pytest.mark.slow
def test_people_chat_come_and_go():
    with listening("chat_server.py", 0) as port:
        ann = Person(port, "Ann")
        assert ann.hears() == "here are: only you"
        bob = Person(port, "Bob")
        assert bob.hears() == "here are: Ann"
        assert ann.hears() == "* Bob has come"
        again = Person(port, "Bob")
        assert again.hears() == "not that one" and again.hears() == ""
        again.leave()
        bob.say("grüß dich")
        assert ann.hears() == "Bob: grüß dich"
        ann.say("hello")
        assert bob.hears() == "Ann: hello"
        bob.leave()
        assert ann.hears() == "* Bob has gone"
        ann.say("x" * 100_000)
        assert ann.hears() == "", "a line that does not end"
        ann.leave()


class Site(http.server.BaseHTTPRequestHandler):
    """Pages with links to two others, one to another site, and one that is missing."""

    def do_GET(self) -> None:
        name = self.path.strip("/") or "0"
        if not name.isdigit() or int(name) >= 30:
            self.send_error(404)
            return
        links = [2 * int(name) + 1, 2 * int(name) + 2]
        body = "".join(f'<a href="/{n}#top">{n}</a>' for n in links)
        body += '<a href="http://example.invalid/">elsewhere</a>'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def site():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_the_scraper_follows_every_link_of_the_site_once(tmp_path):
    with site() as url:
        done = python(str(EXAMPLES / "scraper.py"), url, cwd=tmp_path)
        few = python(str(EXAMPLES / "scraper.py"), url, "5", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    *lines, last = done.out.splitlines()
    # Number 30 and all that only it would lead to are missing; 0 is the start itself.
    pages = {line.split()[0] for line in lines if line.endswith("bytes")}
    assert pages == {url, *(f"{url}{n}" for n in range(1, 30))}
    failed = {line.split()[0] for line in lines if "failed" in line}
    assert failed == {f"{url}{n}" for n in range(30, 61)}
    assert len(lines) == 61 and last == "61 pages"
    assert few.out.splitlines()[-1] == "5 pages"


@contextlib.contextmanager
def inside():
    """A plain server which says all it was told in capitals, when it has been told all of a line."""

    def serve(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = sock.accept()
                with peer, peer.makefile("rb") as lines:
                    peer.sendall(lines.readline().upper())

    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=serve, args=(sock,))
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.slow
def test_the_proxy_takes_tls_off(tmp_path):
    keys.make_certificate(tmp_path)
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    context = ssl.create_default_context(cafile=files[0])
    long = b"x" * 3_000_000 + b"\n"
    with inside() as target, listening("tls_proxy.py", *files, 0, f"127.0.0.1:{target}") as port:
        for line in (b"hello\n", long):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=50) as sock,
                context.wrap_socket(sock, server_hostname="localhost") as tls,
                tls.makefile("rb") as answer,
            ):
                tls.sendall(line)
                assert answer.read() == line.upper()
        with socket.create_connection(("127.0.0.1", port), timeout=50) as sock:
            sock.sendall(b"not TLS\n")
            with contextlib.suppress(ConnectionError):
                while sock.recv(100):
                    pass
