"""aiomysql: a shop whose last pieces many want at once; python shop_aiomysql.py PORT SOCKET"""

import asyncio
import random
import sys

import aiomysql
from report import let_go, report

ARTICLES = 10
STOCK = 12
BUYERS = 16
ORDERS = 12
ROWS = 10_000


class Shop:
    """Sells what is there, and not more."""

    def __init__(self, pool: aiomysql.Pool) -> None:
        self.pool = pool
        self.sold = 0
        self.sold_out = 0
        self.deadlocks = 0

    async def buyer(self, number: int) -> None:
        choice = random.Random(number)
        for _ in range(ORDERS):
            basket = choice.sample(range(ARTICLES), 2)  # in any order: buyers can block each other
            while not await self.order(number, basket):
                self.deadlocks += 1

    async def order(self, buyer: int, basket: list[int]) -> bool:
        """Both articles or none. False if the server wants the whole again."""
        async with self.pool.acquire() as db, db.cursor() as cursor:
            await db.begin()
            try:
                for article in basket:
                    await cursor.execute(
                        "SELECT stock FROM article WHERE id = %s FOR UPDATE", (article,)
                    )
                    (stock,) = await cursor.fetchone()
                    if stock == 0:
                        self.sold_out += 1
                        await db.rollback()
                        return True
                    await cursor.execute(
                        "UPDATE article SET stock = %s WHERE id = %s", (stock - 1, article)
                    )
                    await cursor.execute(
                        "INSERT INTO sale (article, buyer) VALUES (%s, %s)", (article, buyer)
                    )
                await db.commit()
                self.sold += 2
                return True
            except aiomysql.OperationalError as error:
                await db.rollback()
                if error.args[0] != 1213:
                    raise
                return False


async def stream(pool: aiomysql.Pool) -> bool:
    """Read many rows one by one, from a cursor that keeps none."""
    rows = [(n, random.Random(n).randbytes(n % 700)) for n in range(ROWS)]
    async with pool.acquire() as db:
        async with db.cursor() as cursor:
            await cursor.executemany("INSERT INTO noise VALUES (%s, %s)", rows)
            await db.commit()
        async with db.cursor(aiomysql.SSCursor) as cursor:
            await cursor.execute("SELECT id, data FROM noise ORDER BY id")
            return [row async for row in cursor] == rows


async def main(port: int, path: str) -> None:
    where = {"user": "root", "db": "test", "charset": "utf8mb4"}
    async with (
        aiomysql.connect(unix_socket=path, user="root") as db,
        db.cursor() as cursor,
    ):
        await cursor.execute("CREATE TABLE test.article (id int PRIMARY KEY, stock int NOT NULL)")
        await cursor.execute("CREATE TABLE test.sale (article int, buyer int)")
        await cursor.execute("CREATE TABLE test.noise (id int PRIMARY KEY, data blob)")
        await cursor.executemany(
            "INSERT INTO test.article VALUES (%s, %s)", [(n, STOCK) for n in range(ARTICLES)]
        )
        await db.commit()
    async with aiomysql.create_pool(host="127.0.0.1", port=port, maxsize=BUYERS, **where) as pool:
        shop = Shop(pool)
        await asyncio.gather(*(shop.buyer(n) for n in range(BUYERS)))
        async with pool.acquire() as db, db.cursor() as cursor:
            await cursor.execute(
                "SELECT stock + (SELECT count(*) FROM sale WHERE article = id), stock FROM article"
            )
            articles = await cursor.fetchall()
        facts = {
            "books": sorted({total for total, _ in articles}),
            "left": sum(stock for _, stock in articles),
            "sold": shop.sold,
            "orders": shop.sold // 2 + shop.sold_out,
            "streamed": await stream(pool),
        }
    await let_go()
    report(**facts)


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
