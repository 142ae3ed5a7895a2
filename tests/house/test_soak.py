"""The soak passes where all is well, and notices a wrong byte, a lost one, and what is left over."""

from __future__ import annotations

import asyncio
import socket

import pytest

import ioxide
from tools.soak import client, keys, left, plan, server, waves


class Here:
    """The server's side in the same loop."""

    def __init__(self, book, where) -> None:
        self.book, self.where = book, where

    async def ask(self, what="counts"):
        await asyncio.sleep(0)
        return self.book.answer() | {"left": left.measure()}


@pytest.fixture
def soak(tmp_path):
    """Runs one small wave; returns the clients, and which descriptors are left."""
    keys.make_certificate(tmp_path)

    async def main():
        book = server.Book()
        async with server.serve(book, tmp_path, keys.serving(tmp_path)) as where:
            crowd = waves.Soak(Here(book, where), keys.trusting(tmp_path), seed=1)
            before = left.measure()
            after, _ = await crowd.wave("wave", 60, 0.3)
        return crowd, [what for what in left.grown(before, after) if "descriptors" in what]

    def run():
        with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
            return runner.run(main())

    return run


@pytest.fixture
def alike(monkeypatch):
    """All connections do the same."""

    def make(_, seed, number):
        return plan.Plan(number, "whole", 500, 500, 0, "streams", "streams", "x")

    monkeypatch.setattr(plan.Plan, "make", classmethod(make))


@pytest.mark.slow
def test_a_wave_passes_and_leaves_nothing(soak):
    crowd, grown = soak()
    assert crowd.wrong == grown == []
    assert crowd.most > 30
    assert crowd.counts["whole"] > 20 and crowd.counts["cut"] > 10


@pytest.mark.slow
def test_bytes_of_another_connection_are_noticed(soak, alike, monkeypatch):
    due = server.Session.due

    def mixed_up(session):
        data = due(session)
        if session.up.number == 7 and len(data) > 100:
            return data[:50] + plan.Stream(8, "down", 10**6).take(len(data))[50:]
        return data

    monkeypatch.setattr(server.Session, "due", mixed_up)
    crowd, _ = soak()
    assert any(
        "connection 7 down differs at" in wrong and "bytes are another's" in wrong
        for wrong in crowd.wrong
    )


@pytest.mark.slow
def test_a_byte_that_the_client_loses_is_noticed(soak, alike, monkeypatch):
    receive = client.StreamsEnd.receive

    async def lossy(end):
        return (await receive(end))[:-1]

    monkeypatch.setattr(client.StreamsEnd, "receive", lossy)
    crowd, _ = soak()
    assert any("ended" in wrong or "differs" in wrong for wrong in crowd.wrong)


@pytest.mark.slow
def test_a_descriptor_that_stays_open_is_noticed(soak, alike, monkeypatch):
    kept, close = [], client.StreamsEnd.close

    def close_and_keep(end):
        close(end)
        kept.append(socket.socket())

    monkeypatch.setattr(client.StreamsEnd, "close", close_and_keep)
    _, grown = soak()
    for sock in kept:
        sock.close()
    assert grown
