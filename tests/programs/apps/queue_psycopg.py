"""psycopg by a Unix socket: jobs in a table, taken by concurrent workers; queue_psycopg.py FOLDER PORT

Workers take jobs with SKIP LOCKED, some are cancelled in the middle of one, whose job is then done
by another. A producer adds jobs by COPY and wakes the workers by NOTIFY.
"""

import asyncio
import hashlib
import sys

import psycopg
from report import let_go, report

import ioxide

JOBS = 400
WORKERS = 12
CANCELLED = 4

TAKE = """
UPDATE job SET taken = taken + 1 WHERE id =
    (SELECT id FROM job WHERE digest IS NULL ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING id, body
"""


def body(number: int) -> bytes:
    return hashlib.sha512(str(number).encode()).digest() * (number % 50)


async def work(where: str, number: int) -> int:
    """Do jobs until the word is to stop; return how many."""
    done = 0
    async with await psycopg.AsyncConnection.connect(where, autocommit=True) as db:
        await db.execute("LISTEN jobs")
        over = False
        while True:
            while await one_job(db, hang=number < CANCELLED and done == 3):
                done += 1
            if over:
                return done
            async for notice in db.notifies(timeout=0.05):
                over = over or notice.payload == "over"
                break


async def one_job(db: psycopg.AsyncConnection, hang: bool) -> bool:
    """Take a job and do it, both or neither."""
    async with db.transaction():
        row = await (await db.execute(TAKE)).fetchone()
        if row is None:
            return False
        if hang:
            await db.execute("SELECT pg_sleep(30)")  # to be cancelled here
        job, data = row
        digest = hashlib.sha256(data).hexdigest()
        await db.execute("UPDATE job SET digest = %s WHERE id = %s", (digest, job))
    return True


async def produce(where: str) -> None:
    async with await psycopg.AsyncConnection.connect(where, autocommit=True) as db:
        for start in range(0, JOBS, 50):
            async with (
                db.cursor() as cursor,
                cursor.copy("COPY job (id, body) FROM STDIN (FORMAT binary)") as copy,
            ):
                copy.set_types(["int4", "bytea"])
                for number in range(start, start + 50):
                    await copy.write_row((number, body(number)))
            await db.execute("NOTIFY jobs, 'more'")


async def pipelined(db: psycopg.AsyncConnection) -> bool:
    """A hundred questions before the first answer."""
    async with db.pipeline():
        cursors = [
            await db.execute("SELECT %s::int + taken FROM job WHERE id = %s", (n, n))
            for n in range(100)
        ]
        return [(await cursor.fetchone())[0] for cursor in cursors] == [n + 1 for n in range(100)]


async def main(folder: str, port: int) -> None:
    where = f"host={folder} port={port} user=postgres dbname=postgres"
    async with await psycopg.AsyncConnection.connect(where, autocommit=True) as db:
        await db.execute("DROP TABLE IF EXISTS job")
        await db.execute(
            "CREATE TABLE job (id int PRIMARY KEY, body bytea, taken int DEFAULT 0, digest text)"
        )
        workers = [asyncio.create_task(work(where, n)) for n in range(WORKERS)]
        await produce(where)
        hanging = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)'"
        while (await (await db.execute(hanging)).fetchone())[0] < CANCELLED:
            await asyncio.sleep(0.01)
        for worker in workers[:CANCELLED]:
            worker.cancel()
        ends = await asyncio.gather(*workers[:CANCELLED], return_exceptions=True)
        while (
            await (await db.execute("SELECT count(*) FROM job WHERE digest IS NULL")).fetchone()
        )[0]:
            await asyncio.sleep(0.01)
        await db.execute("NOTIFY jobs, 'over'")
        done = await asyncio.gather(*workers[CANCELLED:])
        rows = await (await db.execute("SELECT id, taken, digest FROM job ORDER BY id")).fetchall()
        expected = [(n, 1, hashlib.sha256(body(n)).hexdigest()) for n in range(JOBS)]
        facts = {
            "each_once": rows == expected,
            "done": sum(done) + 3 * CANCELLED,
            "cancelled": sum(isinstance(end, asyncio.CancelledError) for end in ends),
            "pipelined": await pipelined(db),
        }
    await let_go()
    report(**facts)


with asyncio.Runner(loop_factory=ioxide.new_event_loop) as runner:
    runner.run(main(sys.argv[1], int(sys.argv[2])))
