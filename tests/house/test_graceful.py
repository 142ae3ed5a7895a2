"""The example of a graceful end: signals close the door, and nobody who is being served is let down."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import clean_environment

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "graceful.py"


@pytest.fixture
def start():
    started = []

    def start(seconds):
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), "0", str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(),
        )
        started.append(process)
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        return process, ("127.0.0.1", port)

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(server, address, question=b"first"):
    """A client whose question has arrived."""
    client = socket.create_connection(address, timeout=50)
    client.sendall(question + b"\n")
    assert server.stdout.readline() == f"asked {question.decode()}\n"
    return client


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_answers_be_finished(start, number):
    # The signal must come before the answer.
    server, address = start(1)
    with ask(server, address) as idle:
        assert idle.recv(100) == b"FIRST\n"
        with ask(server, address, b"second") as served:
            server.send_signal(number)
            assert idle.recv(100) == b""
            assert served.recv(100) == b"SECOND\n"
            assert served.recv(100) == b""
    out, _ = server.communicate(timeout=50)
    assert out == f"{number.name}: 1 of 2 clients are being served\nended, 0 clients given up\n"
    assert server.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=50)


@pytest.mark.slow
def test_the_second_signal_ends_the_waiting(start):
    server, address = start(60)
    with ask(server, address) as client:
        server.send_signal(signal.SIGTERM)
        assert server.stdout.readline() == "SIGTERM: 1 of 1 clients are being served\n"
        server.send_signal(signal.SIGTERM)
        assert client.recv(100) == b""
    # Whom it has waited for, and in vain, it would have given up.
    out, _ = server.communicate(timeout=50)
    assert out == "SIGTERM: 1 of 1 clients are being served\nended, 0 clients given up\n"
    assert server.returncode == 0
