"""aiofiles: many files written, read, searched and removed at once; python files_aiofiles.py FOLDER"""

import asyncio
import hashlib
import random
import sys
from pathlib import Path

import aiofiles
import aiofiles.os
import aiofiles.tempfile
from report import report

FILES = 300
LINES = 200


def lines(number: int) -> list[str]:
    noise = random.Random(number)
    return [f"{number}:{n}:{'é' * noise.randrange(40)}\n" for n in range(LINES)]


async def write(folder: Path, number: int) -> None:
    async with aiofiles.open(folder / f"{number}.txt", "w", encoding="utf-8") as file:
        for start in range(0, LINES, 50):
            await file.writelines(lines(number)[start : start + 50])
            await asyncio.sleep(0)


async def read(folder: Path, number: int) -> bool:
    """Line by line, then from the middle."""
    async with aiofiles.open(folder / f"{number}.txt", encoding="utf-8") as file:
        found = [line async for line in file]
        await file.seek(0)
        start = await file.read(10)
    return found == lines(number) and "".join(found).startswith(start)


async def main(folder: Path) -> None:
    numbers = range(FILES)
    await asyncio.gather(*(write(folder, n) for n in numbers))
    read_back = await asyncio.gather(*(read(folder, n) for n in numbers))
    sizes = [(await aiofiles.os.stat(folder / f"{n}.txt")).st_size for n in numbers]
    sha = hashlib.sha256()
    async with aiofiles.tempfile.TemporaryFile("wb+") as whole:
        for number in numbers:
            async with aiofiles.open(folder / f"{number}.txt", "rb") as part:
                while data := await part.read(1000):
                    await whole.write(data)
        size = await whole.tell()
        await whole.seek(0)
        sha.update(await whole.read())
    expected = hashlib.sha256("".join("".join(lines(n)) for n in numbers).encode())
    missing = 0
    try:
        async with aiofiles.open(folder / "nothing.txt"):
            pass
    except FileNotFoundError as error:
        missing = error.errno
    await asyncio.gather(*(aiofiles.os.remove(folder / f"{n}.txt") for n in numbers))
    report(
        read_back=sum(read_back),
        whole=sha.digest() == expected.digest(),
        size=size == sum(sizes),
        missing=missing,
        left=await aiofiles.os.listdir(folder),
    )


asyncio.run(main(Path(sys.argv[1])))
