"""Programs that do what people do with asyncio's libraries do it on ioxide, with every result right."""

from __future__ import annotations

import pytest

from .running import run, uvicorn

pytestmark = pytest.mark.slow


@pytest.mark.libraries("aiohttp")
def test_aiohttp_scrapes_500_pages_from_aiohttp():
    facts = run("scraper.py")
    assert facts.pop("given_up") == facts.pop("silent") > 0
    assert facts == {"wrong": [], "pages": 500, "most": 40}


@pytest.mark.libraries("fastapi", "uvicorn", "websockets", "httpx")
def test_200_people_chat_on_fastapi(tmp_path):
    with uvicorn("chat_site:app", tmp_path / "log") as url:
        assert run("chat_clients.py", url) == {
            "all_spoken": True,
            "same_order": True,
            "all_left": True,
            "history_is_what_was_heard": True,
            "missing": 404,
            "uploaded": True,
            "site": {"loop": "ioxide", "task": "ioxide"},
            "closed": [1000, 1006],
        }
    log = (tmp_path / "log").read_text()
    assert "ERROR" not in log and "Traceback" not in log
    assert "Application shutdown complete" in log


@pytest.mark.libraries("websockets")
def test_workers_take_jobs_over_websockets_with_tls(certificates):
    assert run("ws_workers.py", certificates) == {
        "wrong": [],
        "done": 600,
        "lost": 10,
        "left": 10,
        "gone": 100,
    }


@pytest.mark.libraries("httpx", "uvicorn")
def test_httpx_downloads_from_uvicorn_over_tls(certificates):
    assert run("downloads.py", certificates) == {
        "good": 409,
        "bad": 0,
        "connections": 20,
        "failures": ["ReadTimeout", "RemoteProtocolError"],
    }


@pytest.mark.libraries("asyncpg")
def test_a_bank_on_asyncpg_keeps_its_books(postgresql, certificates):
    facts = run("bank_asyncpg.py", postgresql.port, certificates)
    assert facts.pop("retries") > 0, "the writers have not met"
    assert facts.pop("refused") > 0
    assert facts == dict.fromkeys(
        ("encrypted", "balanced", "accounted_for", "heard", "copied", "cancelled"), True
    )


@pytest.mark.libraries("psycopg")
def test_each_job_in_a_table_is_done_once_with_psycopg(postgresql):
    facts = run("queue_psycopg.py", postgresql.socket, postgresql.port)
    assert facts == {"each_once": True, "done": 400, "cancelled": 4, "pipelined": True}


@pytest.mark.libraries("aiomysql")
def test_a_shop_on_aiomysql_sells_what_it_has(mariadb):
    facts = run("shop_aiomysql.py", mariadb.port, mariadb.socket, module="ioxide")
    assert facts.pop("sold") + facts.pop("left") == 10 * 12
    assert facts == {"books": [12], "orders": 16 * 12, "streamed": True}


@pytest.mark.libraries("redis")
def test_rooms_queues_and_locks_on_redis(redis):
    assert run("rooms_redis.py", redis.port, redis.socket) == {
        "ears": 50 * 200,
        "heard": 50,
        "done": 500,
        "total": sum(range(500)),
        "gave_up": True,
        "big": 5_000_000,
    }


@pytest.mark.libraries("anyio")
def test_anyio_relays_between_tls_and_tcp(certificates):
    assert run("relay_anyio.py", certificates) == {
        "right": 54,
        "answered": 54,
        "in_time": True,
        "given_up": True,
        "closed": 60,
        "said": "42",
    }


@pytest.mark.libraries("aiofiles")
def test_aiofiles_writes_and_reads_hundreds_of_files(tmp_path):
    assert run("files_aiofiles.py", tmp_path, module="ioxide") == {
        "read_back": 300,
        "whole": True,
        "size": True,
        "missing": 2,
        "left": [],
    }
