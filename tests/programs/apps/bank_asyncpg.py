"""asyncpg over TLS: a bank with concurrent writers; python bank_asyncpg.py PORT CERTS

Transfers that conflict are retried until each has happened once; a listener hears of every one;
rows go in and out by COPY; a query that takes too long is cancelled and its connection goes on.
"""

import random
import ssl
import sys
from pathlib import Path

import ioxide as asyncio

asyncio.install()

import asyncpg  # noqa: E402
from report import let_go, report  # noqa: E402

ACCOUNTS = 20
WRITERS = 10
TRANSFERS = 30
START = 1000

SCHEMA = """
DROP TABLE IF EXISTS account, transfer, reading;
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE transfer (writer int, number int, source int, target int, amount bigint,
                       PRIMARY KEY (writer, number));
CREATE TABLE reading (id int, noise bytea);
"""


class Bank:
    """The writers' side."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.retries = 0
        self.refused = 0

    async def write(self, writer: int) -> None:
        choice = random.Random(writer)
        for number in range(TRANSFERS):
            source, target = choice.sample(range(ACCOUNTS), 2)
            await self.transfer(writer, number, source, target, choice.randrange(1, 400))

    async def transfer(self, *what: int) -> None:
        while True:
            try:
                async with self.pool.acquire() as db, db.transaction(isolation="serializable"):
                    await self.move(db, *what)
                return
            except asyncpg.SerializationError:
                self.retries += 1
            except asyncpg.DeadlockDetectedError:
                self.retries += 1
            except asyncpg.CheckViolationError:
                self.refused += 1
                return

    async def move(
        self,
        db: asyncpg.Connection,
        writer: int,
        number: int,
        source: int,
        target: int,
        amount: int,
    ) -> None:
        await db.execute("INSERT INTO transfer VALUES ($1, $2, $3, $4, $5)",
                         writer, number, source, target, amount)  # fmt: skip
        for account, change in ((source, -amount), (target, amount)):
            balance = await db.fetchval("SELECT balance FROM account WHERE id = $1", account)
            await db.execute(
                "UPDATE account SET balance = $2 WHERE id = $1", account, balance + change
            )
        await db.execute("SELECT pg_notify('transfers', $1)", f"{writer}:{number}")


async def books_balance(pool: asyncpg.Pool) -> bool:
    """Whether the balances are what the transfers make of them."""
    balances = dict(await pool.fetch("SELECT id, balance FROM account"))
    expected = dict.fromkeys(range(ACCOUNTS), START)
    for source, target, amount in await pool.fetch("SELECT source, target, amount FROM transfer"):
        expected[source] -= amount
        expected[target] += amount
    return balances == expected


async def copy_in_and_out(pool: asyncpg.Pool) -> bool:
    rows = [(n, random.Random(n).randbytes(n % 3000)) for n in range(3000)]
    async with pool.acquire() as db:
        await db.copy_records_to_table("reading", records=rows)
        async with db.transaction():
            cursor = db.cursor("SELECT id, noise FROM reading ORDER BY id", prefetch=100)
            return [tuple(row) async for row in cursor] == rows


async def cancel_a_slow_query(pool: asyncpg.Pool) -> bool:
    async with pool.acquire() as db:
        backend = db.get_server_pid()
        try:
            await db.execute("SELECT pg_sleep(30)", timeout=0.05)
        except TimeoutError:
            return await db.fetchval("SELECT pg_backend_pid()") == backend
    return False


async def main(port: int, certificates: Path) -> None:
    where = {"host": "localhost", "port": port, "user": "postgres", "password": "secret"}
    tls = ssl.create_default_context(cafile=certificates / "ca.pem")
    async with asyncpg.create_pool(
        **where, database="postgres", ssl=tls, min_size=2, max_size=WRITERS
    ) as pool:
        await pool.execute(SCHEMA)
        await pool.executemany(
            "INSERT INTO account VALUES ($1, $2)", [(n, START) for n in range(ACCOUNTS)]
        )
        heard: list[str] = []
        listener = await asyncpg.connect(**where, database="postgres", ssl=tls)
        await listener.add_listener("transfers", lambda *message: heard.append(message[3]))
        bank = Bank(pool)
        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(bank.write(writer))
        await listener.execute("SELECT 1")  # what was sent before its answer has been heard
        done = await pool.fetch("SELECT writer, number FROM transfer")
        encrypted = await pool.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        facts = {
            "encrypted": encrypted,
            "balanced": await books_balance(pool),
            "accounted_for": len(done) + bank.refused == WRITERS * TRANSFERS,
            "refused": bank.refused,
            "retries": bank.retries,
            "heard": sorted(heard) == sorted(f"{w}:{n}" for w, n in done),
            "copied": await copy_in_and_out(pool),
            "cancelled": await cancel_a_slow_query(pool),
        }
        await listener.close()
    await let_go()
    report(**facts)


asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
