"""What each program says at its end, for the test to judge."""

import asyncio
import json
import os


def report(**facts: object) -> None:
    """Print the facts, what ran them, and what is left over, as one line of JSON."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    facts |= {
        "loop": type(loop).__module__.split(".")[0],
        "task": type(task).__module__.split(".")[0],
        "tasks_left": len(asyncio.all_tasks()) - 1,
        "sockets_left": sum(map(is_socket, os.listdir("/proc/self/fd"))),
    }
    print(json.dumps(facts), flush=True)


def is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except FileNotFoundError:
        return False


async def let_go(turns: int = 20) -> None:
    """Give connections that were closed the turns in which they end."""
    for _ in range(turns):
        await asyncio.sleep(0.001)
