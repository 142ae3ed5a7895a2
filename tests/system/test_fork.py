"""A forked child gets nothing of the parent's loop, and takes nothing from it."""

from __future__ import annotations

from house.programs import python

CHECK = """
import asyncio, os, socket, ioxide

def child(function):
    if (pid := os.fork()) == 0:
        try:
            function()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""


def check(tmp_path, program):
    assert python("-W", "ignore", "-c", CHECK + program, cwd=tmp_path) == (0, "", "")


def test_no_loop_runs_in_a_child_forked_by_a_task(tmp_path):
    check(
        tmp_path,
        """
def in_child():
    for function in (asyncio.get_running_loop, ioxide.get_running_loop, asyncio.current_task):
        try:
            function()
        except RuntimeError:
            pass
        else:
            raise AssertionError(function)
    assert ioxide.run(asyncio.sleep(0, 5)) == 5

async def main():
    child(in_child)
    assert await asyncio.sleep(0.001, 5) == 5
    assert asyncio.current_task() is not None

ioxide.run(main())
""",
    )


def test_child_that_closes_the_inherited_loop_leaves_the_parents_watching(tmp_path):
    check(
        tmp_path,
        """
loop = ioxide.new_event_loop()
a, b = socket.socketpair()
a.setblocking(False)
loop.add_reader(a, loop.stop)

def in_child():
    assert loop.remove_reader(a)
    loop.close()

child(in_child)
b.send(b"x")
loop.run_forever()
loop.close()
""",
    )


def test_child_can_run_the_inherited_loop_by_itself(tmp_path):
    check(
        tmp_path,
        """
loop = ioxide.new_event_loop()
a, b = socket.socketpair()
a.setblocking(False)
loop.add_reader(a, loop.stop)

def in_child():
    # Its own watching: what the parent does to the loop is no affair of the child's.
    b.send(b"x")
    loop.run_forever()
    loop.remove_reader(a)
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    loop.close()

child(in_child)
loop.run_forever()
loop.close()
""",
    )


def test_grandchildren_work_as_well(tmp_path):
    check(
        tmp_path,
        """
loop = ioxide.new_event_loop()
def in_grandchild():
    assert loop.run_until_complete(asyncio.to_thread(abs, -3)) == 3
    loop.run_until_complete(loop.shutdown_default_executor())
def in_child():
    assert loop.run_until_complete(asyncio.to_thread(abs, -3)) == 3
    child(in_grandchild)
assert loop.run_until_complete(asyncio.to_thread(abs, -3)) == 3
child(in_child)
assert loop.run_until_complete(asyncio.to_thread(abs, -3)) == 3
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
""",
    )


def test_child_that_never_used_the_inherited_threads_exits(tmp_path):
    check(
        tmp_path,
        """
import time
loop = ioxide.new_event_loop()
job = loop.run_in_executor(None, time.sleep, 0.05)
if (pid := os.fork()) == 0:
    raise SystemExit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
loop.run_until_complete(job)
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
""",
    )


def test_child_shuts_an_inherited_executor_down_without_its_threads(tmp_path):
    check(
        tmp_path,
        """
import time
loop = ioxide.new_event_loop()
job = loop.run_in_executor(None, time.sleep, 0.05)
child(lambda: loop.run_until_complete(loop.shutdown_default_executor()))
loop.run_until_complete(job)
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
""",
    )


#: A pool whose threads are about to be told that they may end: each of them takes a lock then, which a child that is
#: forked in this moment finds taken for ever. Not each child does; so there are many.
CROWD = """
from ioxide._executor import ThreadPool
def crowd(size=16):
    pool = ThreadPool(size)
    for job in [pool.submit(all_here.wait) for _ in range(size)]:
        job.result()
    return pool
import threading
all_here = threading.Barrier(16)
"""


def test_child_drops_an_inherited_pool_whose_threads_were_ending(tmp_path):
    check(
        tmp_path,
        CROWD
        + """
def in_child():
    global pool
    del pool
for _ in range(150):
    pool = crowd()
    pool.shutdown(wait=False)
    child(in_child)
""",
    )


def test_child_makes_a_pool_while_the_threads_of_others_were_ending(tmp_path):
    check(
        tmp_path,
        CROWD
        + """
def in_child():
    pool = ThreadPool(1)
    assert pool.submit(abs, -3).result() == 3
    pool.shutdown()
for _ in range(150):
    pool = crowd()
    del pool
    child(in_child)
""",
    )
