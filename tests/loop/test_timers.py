"""When and in which order timers fire."""

from __future__ import annotations

import random
import socket
import time
from unittest import mock

import pytest

import ioxide


def test_timers_fire_in_the_order_of_their_deadlines(loop):
    log = []
    now = loop.time()
    deadlines = [now + i / 10_000 for i in range(100)]
    shuffled = random.Random(1).sample(deadlines, 100)
    for when in shuffled:
        loop.call_at(when, log.append, when)
    loop.call_at(now + 0.02, loop.stop)
    loop.run_forever()
    assert log == deadlines


def test_timers_never_fire_early(loop):
    late = []
    start = loop.time()
    for delay in (0.001, 0.005, 0.0101, 0.0199):
        loop.call_later(delay, lambda d=delay: late.append(loop.time() - start - d))
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    # asyncio rounds to the clock's resolution, which is far below this.
    assert len(late) == 4 and all(x > -0.0005 for x in late)


def test_timers_do_not_fire_late(loop):
    # More than half a second late each, they would not end in the time of a test.
    def turn(left):
        if left:
            loop.call_later(0.001, turn, left - 1)
        else:
            loop.stop()

    turn(100)
    loop.run_forever()


def test_crowd_of_timers_fires_in_order_without_those_called_off():
    loop = ioxide.EventLoop(clock="virtual")
    log = []
    choose = random.Random(5)
    # At once, soon, in the seconds in which a crowd is kept apart, later, and many at the same instant.
    whens = [
        choose.choice([0, choose.random() / 100, choose.random() * 3, 0.5, 100])
        for _ in range(5_000)
    ]
    handles = [loop.call_at(when, log.append, n) for n, when in enumerate(whens)]
    for n in choose.sample(range(5_000), 2_000):
        handles[n].cancel()
    expected = sorted(
        (n for n in range(5_000) if not handles[n].cancelled()), key=lambda n: whens[n]
    )
    # One of those that are due at the same instant calls off another, and sets one that comes after all of them.
    last = [n for n in expected if whens[n] == 0.5][-1]

    def interfere():
        handles[last].cancel()
        loop.call_at(0.5, log.append, "set late")

    loop.call_at(0.4999, interfere)
    expected.remove(last)
    expected.insert(1 + max(i for i, n in enumerate(expected) if whens[n] == 0.5), "set late")
    loop.call_at(101, loop.stop)
    loop.run_forever()
    loop.close()
    assert log == expected


def test_negative_and_zero_delays_fire_in_the_next_turn(loop):
    log = []
    loop.call_later(-5, log.append, "negative")
    loop.call_later(0, log.append, "zero")
    loop.call_soon(log.append, "soon")
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert log == ["soon", "negative", "zero"]


def test_timer_due_in_a_busy_turn_fires_in_the_next_turn_after_what_was_ready(loop):
    log = []

    def busy():
        loop.call_later(0.001, log.append, "timer")
        loop.call_soon(log.append, "soon")
        time.sleep(0.005)
        loop.call_soon(loop.call_soon, loop.stop)

    loop.call_soon(busy)
    loop.run_forever()
    assert log == ["soon", "timer"]


def test_cancelled_timer_does_not_fire_and_does_not_keep_its_argument(loop):
    import weakref

    class Argument:
        pass

    argument = Argument()
    dead = weakref.ref(argument)
    timer = loop.call_later(0.001, lambda _: pytest.fail("it fired"), argument)
    del argument
    timer.cancel()
    assert dead() is None and timer.cancelled()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()


def test_timer_cancelled_by_a_timer_of_the_same_instant_does_not_fire(loop):
    when = loop.time() + 0.002
    log = []
    loop.call_at(when, lambda: second.cancel())
    second = loop.call_at(when + 1e-9, log.append, "second")
    loop.call_at(when + 0.005, loop.stop)
    loop.run_forever()
    assert log == []


def test_when_is_the_deadline(loop):
    now = loop.time()
    assert loop.call_at(now + 5, print).when() == now + 5
    timer = loop.call_later(10, print)
    assert now + 10 <= timer.when() <= loop.time() + 10


def test_timer_handles_compare_by_their_deadline(aio, loop):
    early, late = loop.call_at(1e6, print), loop.call_at(2e6, print)
    same = loop.call_at(1e6, print)
    assert early < late and early <= late and late > early and late >= early
    assert early == same and early != late and hash(early) == hash(same)
    assert isinstance(early, aio.TimerHandle) and isinstance(early, aio.Handle)


def test_many_cancelled_timers_do_not_delay_the_live_one(loop):
    for _ in range(20_000):
        loop.call_later(1000, print).cancel()
    start = time.thread_time()
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert time.thread_time() - start < 1


def test_far_deadline_does_not_overflow(loop):
    loop.call_later(1e10, print)
    loop.call_at(1e300, print)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()


def test_delay_of_the_wrong_type_is_refused_and_the_loop_goes_on(loop):
    for delay in (None, "1", object()):
        with pytest.raises(TypeError):
            loop.call_later(delay, print)
    with pytest.raises(TypeError):
        loop.call_at(None, print)
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_loop_time_never_runs_backwards(loop):
    seen = [loop.time() for _ in range(1000)]
    assert seen == sorted(seen)
    assert seen[-1] <= time.monotonic() <= loop.time()


def test_sleepers_wake_in_order_and_return_their_result(aio):
    async def main():
        log = []

        async def sleeper(i):
            assert await aio.sleep(i / 1000, i) == i
            log.append(i)

        await aio.gather(*(sleeper(i) for i in (5, 1, 4, 2, 3, 0)))
        return log

    assert aio.run(main()) == [0, 1, 2, 3, 4, 5]


def test_idle_loop_uses_no_cpu(loop):
    loop.call_later(0.2, loop.stop)
    start = time.thread_time()
    loop.run_forever()
    assert time.thread_time() - start < 0.02


def test_idle_loop_with_a_thousand_sleepers_uses_no_cpu(aio):
    async def main():
        tasks = [aio.create_task(aio.sleep(3600)) for _ in range(1000)]
        await aio.sleep(0.01)
        start = time.thread_time()
        await aio.sleep(0.2)
        used = time.thread_time() - start
        for task in tasks:
            task.cancel()
        await aio.wait(tasks)
        return used

    assert aio.run(main()) < 0.02


def test_a_virtual_clock_does_not_jump_over_what_the_kernel_has():
    loop = ioxide.EventLoop(clock="virtual")
    ours, theirs = socket.socketpair()
    seen = []
    loop.add_reader(ours, lambda: (seen.append(loop.time()), ours.recv(1)))
    theirs.send(b"x")
    loop.call_later(10, loop.stop)
    loop.run_forever()
    loop.close()
    ours.close()
    theirs.close()
    assert seen == [0]


def test_timers_go_by_a_time_that_the_program_has_put_in_place(loop):
    async def main():
        fired = []
        now = loop.time()
        with mock.patch.object(loop, "time") as time:
            time.return_value = now
            handle = loop.call_later(1000, fired.append, "later")
            assert handle.when() == pytest.approx(now + 1000)
            await aio_turns(3)
            assert not fired
            time.return_value = handle.when()
            await aio_turns(2)
            assert fired == ["later"]
        # Back to the kernel's clock, from the next turn on.
        await aio_turns(1)
        assert now <= loop.time() < now + 100
        loop.call_later(0, fired.append, "soon")
        await aio_turns(3)
        assert fired == ["later", "soon"]

    async def aio_turns(count):
        for _ in range(count):
            await ioxide.sleep(0)

    loop.run_until_complete(main())


def test_timers_go_by_the_time_of_a_subclass():
    class Ahead(ioxide.EventLoop):
        def time(self):
            return super().time() + 5000

    async def main():
        loop = ioxide.get_running_loop()
        done = loop.create_future()
        loop.call_at(loop.time() + 0.01, done.set_result, "at")
        assert await done == "at"
        assert await ioxide.wait_for(ioxide.sleep(0.01, "slept"), 60) == "slept"

    with ioxide.Runner(loop_factory=Ahead) as runner:
        runner.run(main())


def test_a_time_that_fails_leaves_the_loop(loop):
    loop.time = mock.Mock(side_effect=ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(ioxide.sleep(0))
    del loop.time
    loop.run_until_complete(ioxide.sleep(0))
