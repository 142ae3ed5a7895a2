//! The thread pool: who runs what, how many threads there are, and how it ends.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ioxide_core::pool::{JobSource, Pool, Rejected, Wait, Worker};

const LONG: Duration = Duration::from_secs(50);

type Job = Box<dyn FnOnce() + Send>;

fn run_all(source: &JobSource<Job>) {
    while source.wait(|| false) == Wait::Ready {
        while let Some(next) = source.next_ready(false, 0) {
            (next.job)();
        }
    }
}

fn pool(max_threads: usize) -> Pool<Job> {
    Pool::new(max_threads, "test", Arc::new(run_all))
}

fn submit(pool: &Pool<Job>, job: impl FnOnce() + Send + 'static) {
    assert!(pool.submit(Box::new(job)).is_ok());
}

/// A job that runs until the sender it gives is dropped, and says when it has begun.
fn block(pool: &Pool<Job>) -> (Receiver<()>, Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    submit(pool, move || {
        begun.send(()).unwrap();
        let _ = released.recv();
    });
    (has_begun, release)
}

#[test]
fn every_job_runs_once() {
    let pool = pool(3);
    let count = Arc::new(AtomicUsize::new(0));
    for _ in 0..2_000 {
        let count = Arc::clone(&count);
        submit(&pool, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert!(pool.shutdown(false).is_empty());
    assert!(pool.join(Some(LONG)));
    assert_eq!(count.load(Ordering::Relaxed), 2_000);
    assert_eq!(pool.threads(), 0);
}

#[test]
fn blocked_jobs_do_not_hold_back_others_while_threads_are_left() {
    let pool = pool(4);
    let barrier = Arc::new(Barrier::new(5));
    for _ in 0..4 {
        let barrier = Arc::clone(&barrier);
        submit(&pool, move || {
            barrier.wait();
        });
    }
    // Returns only if all four run at the same time.
    barrier.wait();
    assert_eq!(pool.threads(), 4);
}

#[test]
fn there_are_never_more_threads_than_allowed() {
    let pool = pool(2);
    let blocked: Vec<_> = (0..2).map(|_| block(&pool)).collect();
    for (begun, _) in &blocked {
        begun.recv_timeout(LONG).unwrap();
    }
    let (done, is_done) = mpsc::channel();
    submit(&pool, move || done.send(()).unwrap());
    assert_eq!(pool.threads(), 2);
    assert!(is_done.try_recv().is_err(), "both threads are busy");
    drop(blocked);
    is_done.recv_timeout(LONG).unwrap();
}

#[test]
fn an_idle_thread_is_used_again() {
    let pool = pool(50);
    let names = Arc::new(Mutex::new(HashSet::new()));
    for _ in 0..50 {
        let (done, is_done) = mpsc::channel();
        let names = Arc::clone(&names);
        submit(&pool, move || {
            names
                .lock()
                .unwrap()
                .insert(thread::current().name().unwrap().to_owned());
            done.send(()).unwrap();
        });
        is_done.recv_timeout(LONG).unwrap();
    }
    // A thread counts as idle a moment after its job is done, so now and then another one starts.
    let names = names.lock().unwrap();
    assert!(names.contains("test_0"));
    assert!(names.len() < 25, "{names:?}");
}

#[test]
fn one_worker_goes_through_short_jobs_without_waking_others() {
    let (enter, entered) = mpsc::channel::<()>();
    let entered = Mutex::new(entered);
    let worker: Worker<usize> = Arc::new(move |source: &JobSource<usize>| {
        while source.wait(|| false) == Wait::Ready {
            // As a lock that the submitter holds until it has queued everything.
            let _ = entered.lock().unwrap().recv();
            while source.next_ready(false, 0).is_some() {}
        }
    });
    let pool = Pool::new(8, "test", worker);
    for job in 0..100 {
        assert!(pool.submit(job).is_ok());
    }
    assert_eq!(pool.threads(), 1, "the first worker has not looked yet");
    drop(enter);
    pool.shutdown(false);
    assert!(pool.join(Some(LONG)));
}

#[test]
fn shutdown_returns_what_is_queued_or_runs_it() {
    for drop_pending in [true, false] {
        let pool = pool(1);
        let (begun, release) = block(&pool);
        begun.recv_timeout(LONG).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let ran = Arc::clone(&ran);
            submit(&pool, move || {
                ran.fetch_add(1, Ordering::Relaxed);
            });
        }
        let dropped = pool.shutdown(drop_pending).len();
        assert!(matches!(
            pool.submit(Box::new(|| {})),
            Err(Rejected::Shutdown(_))
        ));
        assert!(
            !pool.join(Some(Duration::from_millis(1))),
            "a job still runs"
        );
        drop(release);
        assert!(pool.join(None));
        let expected = if drop_pending { (3, 0) } else { (0, 3) };
        assert_eq!((dropped, ran.load(Ordering::Relaxed)), expected);
    }
}

/// Shutdown at every moment of a worker's life: before it has started, between two jobs, on its way
/// to sleep, asleep, woken. Whatever was taken is run or given back, and every thread ends.
#[test]
fn shutdown_meets_workers_at_any_moment() {
    for round in 0..2_000_usize {
        let pool = Arc::new(pool(1 + round % 3));
        let ran = Arc::new(AtomicUsize::new(0));
        let start = Arc::new(Barrier::new(3));
        let submitters: Vec<_> = (0..2)
            .map(|_| {
                let (pool, ran) = (Arc::clone(&pool), Arc::clone(&ran));
                let start = Arc::clone(&start);
                thread::spawn(move || {
                    start.wait();
                    let mut taken = 0;
                    for _ in 0..round % 7 {
                        let ran = Arc::clone(&ran);
                        let job = Box::new(move || {
                            ran.fetch_add(1, Ordering::Relaxed);
                        });
                        taken += usize::from(pool.submit(job).is_ok());
                    }
                    taken
                })
            })
            .collect();
        start.wait();
        for _ in 0..(round * 37) % 400 {
            std::hint::spin_loop();
        }
        let dropped = pool.shutdown(round % 2 == 0).len();
        let taken: usize = submitters.into_iter().map(|t| t.join().unwrap()).sum();
        assert!(
            pool.join(Some(LONG)),
            "a thread has stayed in round {round}"
        );
        assert_eq!(ran.load(Ordering::Relaxed) + dropped, taken);
        assert_eq!(pool.threads(), 0);
    }
}

#[test]
fn a_worker_does_not_wait_for_itself() {
    let pool = Arc::new(pool(1));
    let (done, is_done) = mpsc::channel();
    let own = Arc::clone(&pool);
    submit(&pool, move || {
        own.shutdown(false);
        done.send(own.join(None)).unwrap();
    });
    assert!(!is_done.recv_timeout(LONG).unwrap());
    assert!(pool.join(Some(LONG)));
}

#[test]
fn an_unused_pool_ends_at_once() {
    let pool = pool(4);
    pool.shutdown(false);
    assert!(pool.join(Some(Duration::ZERO)));
}

#[test]
fn a_dropped_pool_lets_its_threads_go() {
    let ended = Arc::new(());
    let held = Arc::clone(&ended);
    let worker: Worker<()> = Arc::new(move |source: &JobSource<()>| {
        let _held = Arc::clone(&held);
        while source.wait(|| false) == Wait::Ready {
            source.next_ready(false, 0);
        }
    });
    let pool = Pool::new(2, "test", worker);
    assert!(pool.submit(()).is_ok());
    drop(pool);
    // The last thread takes the worker with it.
    let deadline = std::time::Instant::now() + LONG;
    while Arc::strong_count(&ended) > 1 {
        assert!(std::time::Instant::now() < deadline, "a thread has stayed");
        thread::yield_now();
    }
}

#[test]
fn a_panic_in_one_job_does_not_strand_the_others() {
    let pool = pool(1);
    let (begun, release) = block(&pool);
    begun.recv_timeout(LONG).unwrap();
    let (done, is_done) = mpsc::channel();
    // Without the hook, so that the test's output stays readable.
    submit(&pool, || std::panic::resume_unwind(Box::new("a job's bug")));
    submit(&pool, move || done.send(()).unwrap());
    drop(release);
    is_done.recv_timeout(LONG).unwrap();
    pool.shutdown(false);
    assert!(pool.join(Some(LONG)));
}

#[test]
fn a_pool_begins_anew_after_a_fork() {
    let mut pool = pool(2);
    let (begun, _release) = block(&pool);
    begun.recv_timeout(LONG).unwrap();
    pool.reset_after_fork();
    assert_eq!(pool.threads(), 0);
    let (done, is_done) = mpsc::channel();
    submit(&pool, move || done.send(()).unwrap());
    is_done.recv_timeout(LONG).unwrap();
    pool.shutdown(false);
    assert!(pool.join(Some(LONG)));
}

/// Runs short jobs, one after the other, until work counts as brisk; also on a machine that is busy otherwise.
fn get_brisk(pool: &Pool<Job>) {
    let (done, is_done) = mpsc::channel();
    for _ in 0..200 {
        let done = done.clone();
        submit(pool, move || done.send(()).unwrap());
        is_done.recv_timeout(LONG).unwrap();
    }
}

#[test]
fn a_job_that_blocks_after_many_short_ones_is_overtaken() {
    let pool = pool(4);
    for _ in 0..20 {
        get_brisk(&pool);
        let blocked: Vec<_> = (0..3).map(|_| block(&pool)).collect();
        let (done, is_done) = mpsc::channel();
        submit(&pool, move || done.send(()).unwrap());
        for (begun, _) in &blocked {
            begun.recv_timeout(LONG).unwrap();
        }
        is_done.recv_timeout(LONG).unwrap();
    }
}

/// Where the submitter never comes to `begin`, who watches begins.
#[test]
fn what_was_to_begin_soon_begins_by_itself() {
    let pool = pool(2);
    let (mut delayed, mut tries) = (0, 0);
    while delayed < 20 && tries < 200 {
        tries += 1;
        let (done, is_done) = mpsc::channel();
        let job: Job = Box::new(move || done.send(()).unwrap());
        let begins_later = pool.submit_soon(job).is_ok_and(|later| later);
        delayed += usize::from(begins_later);
        is_done.recv_timeout(LONG).unwrap();
        get_brisk(&pool);
    }
    assert!(pool.threads() <= 2);
}

#[test]
fn what_was_to_begin_soon_begins_when_told() {
    let pool = pool(2);
    for _ in 0..2_000 {
        let (done, is_done) = mpsc::channel();
        assert!(pool
            .submit_soon(Box::new(move || done.send(()).unwrap()))
            .is_ok());
        pool.begin();
        is_done.recv_timeout(LONG).unwrap();
    }
    assert!(pool.shutdown(false).is_empty());
    assert!(pool.join(Some(LONG)));
}

/// One thread keeps what it has to tell, as it may, and is stuck then: another is sent to tell it.
#[test]
fn news_do_not_wait_for_a_job_that_blocks() {
    // Held by whoever runs jobs, but for those that block.
    let lock = Arc::new(Mutex::new(0_usize));
    let (tell, told) = mpsc::channel();
    let worker: Worker<Option<Receiver<()>>> = Arc::new(move |source: &JobSource<_>| {
        let announce = |news: &mut usize| {
            if *news > 0 {
                tell.send(std::mem::take(news)).unwrap();
            }
        };
        while source.wait(|| false) == Wait::Ready {
            let mut news = lock.lock().unwrap();
            announce(&mut news);
            while let Some(next) = source.next_ready(*news > 0, 0) {
                if next.tell {
                    announce(&mut news);
                }
                if let Some(release) = next.job {
                    drop(news);
                    let _ = release.recv();
                    news = lock.lock().unwrap();
                }
                *news += 1;
            }
            announce(&mut news);
        }
    });
    let pool = Pool::new(3, "test", worker);
    for _ in 0..50 {
        let (release, is_released) = mpsc::channel();
        for _ in 0..100 {
            assert!(pool.submit(None).is_ok());
        }
        assert!(pool.submit(Some(is_released)).is_ok());
        let mut count = 0;
        while count < 100 {
            count += told.recv_timeout(LONG).unwrap();
        }
        assert_eq!(count, 100, "the last job still blocks");
        drop(release);
        assert_eq!(told.recv_timeout(LONG).unwrap(), 1);
    }
    pool.shutdown(false);
    assert!(pool.join(Some(LONG)));
}

/// A worker that is always told that taking over is hopeless tries in the end.
#[test]
fn nobody_is_given_up_for_good() {
    let worker: Worker<Job> = Arc::new(|source: &JobSource<Job>| {
        while source.wait(|| true) == Wait::Ready {
            while let Some(next) = source.next_ready(false, 0) {
                (next.job)();
            }
        }
    });
    let pool = Pool::new(2, "test", worker);
    for _ in 0..10 {
        get_brisk(&pool);
        let (begun, _release) = block(&pool);
        let (done, is_done) = mpsc::channel();
        submit(&pool, move || done.send(()).unwrap());
        begun.recv_timeout(LONG).unwrap();
        is_done.recv_timeout(LONG).unwrap();
    }
}

/// Crowds of short jobs with pauses, in which those who watch go to sleep, from two sides and with long jobs.
#[test]
fn every_job_runs_once_at_any_pace() {
    let pool = Arc::new(pool(3));
    let count = Arc::new(AtomicUsize::new(0));
    let submitters: Vec<_> = (0..2_usize)
        .map(|side| {
            let (pool, count) = (Arc::clone(&pool), Arc::clone(&count));
            thread::spawn(move || {
                for round in 0..300_usize {
                    for job in 0..round % 40 {
                        let count = Arc::clone(&count);
                        let long = job == 30 && round % 3 == 0;
                        let job: Job = Box::new(move || {
                            if long {
                                thread::sleep(Duration::from_micros(300));
                            }
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                        if side == 0 {
                            assert!(pool.submit(job).is_ok());
                        } else if pool.submit_soon(job).is_ok_and(|later| later) {
                            pool.begin();
                        }
                    }
                    if round % 10 == 0 {
                        thread::sleep(Duration::from_micros(round as u64));
                    }
                }
            })
        })
        .collect();
    for submitter in submitters {
        submitter.join().unwrap();
    }
    pool.shutdown(false);
    assert!(pool.join(Some(LONG)));
    let expected: usize = (0..300).map(|round| round % 40).sum();
    assert_eq!(count.load(Ordering::Relaxed), 2 * expected);
}

/// Jobs that keep coming do not keep news from being told for long.
#[test]
fn news_do_not_wait_for_jobs_that_never_end() {
    const LONGEST: Duration = Duration::from_micros(200);
    let (tell, told) = mpsc::channel();
    let worker: Worker<Job> = Arc::new(move |source: &JobSource<Job>| {
        while source.wait(|| true) == Wait::Ready {
            // When it was known to be kept, which is later than when the pool began to count.
            let mut kept: Option<Instant> = None;
            let mut has_news = false;
            loop {
                let is_overdue = kept.is_some_and(|since| since.elapsed() >= LONGEST);
                let Some(next) = source.next_ready(has_news, 0) else {
                    break;
                };
                if next.tell {
                    if kept.take().is_some() {
                        let _ = tell.send("kept, and told");
                    }
                } else if is_overdue {
                    let _ = tell.send("kept for too long");
                } else if has_news {
                    kept.get_or_insert_with(Instant::now);
                }
                (next.job)();
                has_news = true;
            }
        }
    });
    let pool = Arc::new(Pool::new(2, "test", worker));
    let goes_on = Arc::new(AtomicUsize::new(1));
    fn again(pool: &Arc<Pool<Job>>, goes_on: &Arc<AtomicUsize>) {
        let (own, on) = (Arc::clone(pool), Arc::clone(goes_on));
        let job: Job = Box::new(move || {
            if on.load(Ordering::Relaxed) > 0 {
                again(&own, &on);
            }
        });
        drop(pool.submit(job));
    }
    for _ in 0..10 {
        again(&pool, &goes_on);
    }
    for _ in 0..100 {
        assert_eq!(told.recv_timeout(LONG), Ok("kept, and told"));
    }
    goes_on.store(0, Ordering::Relaxed);
    pool.shutdown(false);
    assert!(pool.join(Some(LONG)));
}
