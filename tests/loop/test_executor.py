"""Blocking calls on threads: run_in_executor, to_thread, name resolution, shutdown."""

from __future__ import annotations

import concurrent.futures
import contextvars
import socket
import threading
import time

import pytest


def test_result_and_exception_come_back(aio, loop):
    async def main():
        assert await loop.run_in_executor(None, pow, 2, 10) == 1024
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 // 0)

    loop.run_until_complete(main())


def test_job_runs_on_another_thread_and_the_result_on_the_loops(aio, loop):
    async def main():
        future = loop.run_in_executor(None, threading.get_ident)
        where = []
        future.add_done_callback(lambda _: where.append(threading.get_ident()))
        assert await future != threading.get_ident()
        await aio.sleep(0)
        assert where == [threading.get_ident()]

    loop.run_until_complete(main())


def test_many_jobs_all_come_back(aio, loop):
    async def main():
        return await aio.gather(
            *(loop.run_in_executor(None, int.__add__, i, 1) for i in range(2000))
        )

    assert loop.run_until_complete(main()) == list(range(1, 2001))


def test_jobs_run_side_by_side(aio, loop):
    meeting = threading.Barrier(3)

    async def main():
        await aio.gather(*(loop.run_in_executor(None, meeting.wait, 50) for _ in range(3)))

    loop.run_until_complete(main())


def test_any_executor_may_be_given(aio, loop):
    class Inline(concurrent.futures.Executor):
        calls = 0

        def submit(self, function, /, *args, **kwargs):
            self.calls += 1
            future = concurrent.futures.Future()
            try:
                future.set_result(function(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
            return future

    executor = Inline()

    async def main():
        assert await loop.run_in_executor(executor, threading.get_ident) == threading.get_ident()
        with pytest.raises(ValueError):
            await loop.run_in_executor(executor, int, "x")

    loop.run_until_complete(main())
    assert executor.calls == 2


def test_thread_pool_and_process_like_executors_work(aio, loop):
    with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine") as pool:
        name = loop.run_until_complete(
            loop.run_in_executor(pool, lambda: threading.current_thread().name)
        )
    assert name.startswith("mine")


def test_default_executor_can_be_replaced(aio, loop):
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="default")
    loop.set_default_executor(pool)

    async def main():
        first = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        second = await aio.to_thread(lambda: threading.current_thread().name)
        return first, second

    assert all(name.startswith("default") for name in loop.run_until_complete(main()))
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError):
        pool.submit(print)


def test_to_thread_carries_the_context_and_keywords(aio):
    variable = contextvars.ContextVar("variable")

    def work(a, *, b):
        return a, b, variable.get()

    async def main():
        variable.set("carried")
        return await aio.to_thread(work, 1, b=2)

    assert aio.run(main()) == (1, 2, "carried")


def test_cancelling_the_wait_leaves_the_loop_usable_and_the_job_running(aio, loop):
    started, release, ended = threading.Event(), threading.Event(), threading.Event()

    def job():
        started.set()
        release.wait()
        ended.set()

    async def main():
        task = aio.create_task(aio.to_thread(job))
        while not started.is_set():
            await aio.sleep(0.001)
        task.cancel()
        with pytest.raises(aio.CancelledError):
            await task
        assert not ended.is_set()
        release.set()
        assert await loop.run_in_executor(None, ended.wait)

    loop.run_until_complete(main())


def test_job_cancelled_before_its_start_never_runs(aio, loop):
    ran = []

    async def main():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            release = threading.Event()
            blocker = loop.run_in_executor(pool, release.wait)
            queued = loop.run_in_executor(pool, ran.append, 1)
            queued.cancel()
            await aio.sleep(0)
            release.set()
            await blocker
            # After this one the queued one would have run.
            await loop.run_in_executor(pool, int)

    loop.run_until_complete(main())
    assert ran == []


def test_after_shutdown_the_default_executor_is_refused(aio, loop):
    async def main():
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
            loop.run_in_executor(None, print)

    loop.run_until_complete(main())


def test_shutdown_waits_for_running_jobs(aio, loop):
    log = []
    started = threading.Event()

    def job():
        started.set()
        time.sleep(0.05)
        log.append("job")

    async def main():
        loop.run_in_executor(None, job)
        while not started.is_set():
            await aio.sleep(0.001)
        await loop.shutdown_default_executor()
        log.append("shut down")

    loop.run_until_complete(main())
    assert log == ["job", "shut down"]


@pytest.mark.since(3, 13)  # the first releases of 3.12 wait all the same
def test_shutdown_with_a_timeout_warns_and_returns(aio, loop):
    release = threading.Event()

    async def main():
        # It ends by itself after this time only.
        future = loop.run_in_executor(None, release.wait, 15)
        with pytest.warns(
            RuntimeWarning,
            match="The executor did not finishing joining its threads within 0.05 seconds",
        ):
            await loop.shutdown_default_executor(0.05)
        assert not future.done()
        release.set()
        assert await future is True

    loop.run_until_complete(main())


def test_lambda_job_keeps_nothing_alive_after_its_end(aio, loop):
    import gc
    import weakref

    class Argument:
        pass

    argument = Argument()
    dead = weakref.ref(argument)
    loop.run_until_complete(loop.run_in_executor(None, lambda _: None, argument))
    del argument
    # The worker may still be between the result and its next job.
    while dead() is not None:
        time.sleep(0.001)
        gc.collect()


def test_job_may_call_back_into_the_loop(aio, loop):
    async def main():
        event = aio.Event()
        await aio.gather(
            event.wait(), loop.run_in_executor(None, lambda: loop.call_soon_threadsafe(event.set))
        )

    loop.run_until_complete(main())


async def many_short_jobs(aio, loop):
    """After a row of them the pool leaves one thread to itself, and another one watches it."""
    for _ in range(50):
        await loop.run_in_executor(None, int)
    await aio.gather(*(loop.run_in_executor(None, int) for _ in range(50)))


def test_job_that_blocks_after_many_short_ones_holds_back_nobody(aio, loop):
    async def main():
        for _ in range(5):
            await many_short_jobs(aio, loop)
            meeting = threading.Barrier(4)
            await aio.gather(*(loop.run_in_executor(None, meeting.wait, 50) for _ in range(4)))

    loop.run_until_complete(main())


def test_outcomes_arrive_while_the_next_job_blocks(aio, loop):
    async def main():
        for _ in range(5):
            await many_short_jobs(aio, loop)
            release = threading.Event()
            short = [loop.run_in_executor(None, int) for _ in range(20)]
            blocked = loop.run_in_executor(None, release.wait, 50)
            await aio.gather(*short)
            release.set()
            assert await blocked

    loop.run_until_complete(main())


def test_job_begins_although_the_loop_does_not_go_on(aio, loop):
    async def main():
        for _ in range(5):
            await many_short_jobs(aio, loop)
            begun = threading.Event()
            job = loop.run_in_executor(None, begun.set)
            assert begun.wait(50)
            await job

    loop.run_until_complete(main())


def test_job_among_short_ones_may_wait_for_the_loop(aio, loop):
    async def answer():
        return 42

    def ask():
        return aio.run_coroutine_threadsafe(answer(), loop).result(50)

    async def main():
        for _ in range(5):
            await many_short_jobs(aio, loop)
            jobs = [int] * 20 + [ask] + [int] * 20
            outcomes = await aio.gather(*(loop.run_in_executor(None, job) for job in jobs))
            assert outcomes == [0] * 20 + [42] + [0] * 20

    loop.run_until_complete(main())


def test_coroutine_function_is_refused_in_debug_mode(aio, loop):
    async def job():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used with run_in_executor"):
        loop.run_in_executor(None, job)
    loop.set_debug(False)


def test_getaddrinfo_and_getnameinfo(aio, loop):
    async def main():
        infos = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert infos == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert await loop.getaddrinfo("localhost", "http", proto=socket.IPPROTO_TCP)
        assert await loop.getnameinfo(
            ("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        ) == ("127.0.0.1", "80")
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("256.256.256.256.invalid", 80, flags=socket.AI_NUMERICHOST)

    loop.run_until_complete(main())


def test_replaced_getaddrinfo_of_the_socket_module_takes_effect(aio, loop, monkeypatch):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.9.9.9", 1))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answer)
    assert loop.run_until_complete(loop.getaddrinfo("anything.invalid", 1)) == answer
