//! Threads are joined before the interpreter goes: a worker must not meet it half-dismantled.

use super::worker::Ticket;
use crate::fork;
use crate::kit::{err, gil, PyResult};
use crate::raise;
use crate::runtime::turn::check_signals;
use ioxide_core::pool::Pool;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

struct Registered {
    pool: Arc<Pool<Ticket>>,
    generation: u32,
}

static POOLS: Mutex<Vec<Registered>> = Mutex::new(Vec::new());
static OVER: AtomicBool = AtomicBool::new(false);

/// Notes a pool, and forgets those whose threads have ended for good.
pub(crate) fn register(pool: &Arc<Pool<Ticket>>) {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut index = 0;
    while index < pools.len() {
        let entry = &pools[index];
        if entry.generation != fork::generation() {
            // A parent's: its lock may be held for ever by a thread that does not exist here.
            std::mem::forget(pools.swap_remove(index));
        } else if Arc::strong_count(&entry.pool) == 1 && entry.pool.threads() == 0 {
            drop(pools.swap_remove(index));
        } else {
            index += 1;
        }
    }
    pools.push(Registered {
        pool: Arc::clone(pool),
        generation: fork::generation(),
    });
}

/// After the interpreter has begun to go, nothing is taken any more.
pub(crate) fn refuse_if_over() -> PyResult<()> {
    if OVER.load(Ordering::Relaxed) {
        return Err(raise!(
            err::runtime_error(),
            "cannot schedule new futures after interpreter shutdown"
        ));
    }
    Ok(())
}

/// How long a wait for threads goes without a look at signals.
const PATIENCE: Duration = Duration::from_millis(100);

/// Waits until the pool's threads have ended; whether they have within the timeout. Ctrl-C ends the wait.
pub(crate) fn join(pool: &Pool<Ticket>, timeout: Option<Duration>) -> PyResult<bool> {
    let begun = Instant::now();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let slice = left.map_or(PATIENCE, |left| left.min(PATIENCE));
        let waited = Instant::now();
        if gil::released(|| pool.join(Some(slice))) {
            return Ok(true);
        }
        if waited.elapsed() < slice {
            // The pool does not let one of its own threads wait for itself.
            return Err(raise!(err::runtime_error(), "cannot join current thread"));
        }
        check_signals()?;
        if left.is_some_and(|left| left <= slice) {
            return Ok(false);
        }
    }
}

/// `_join_workers()`: runs what is queued, waits for all threads. `threading` calls it at exit.
pub(crate) fn join_all() -> PyResult<()> {
    OVER.store(true, Ordering::Relaxed);
    let pools = std::mem::take(&mut *POOLS.lock().unwrap_or_else(PoisonError::into_inner));
    for entry in pools {
        if entry.generation != fork::generation() {
            std::mem::forget(entry);
            continue;
        }
        drop(entry.pool.shutdown(false));
        join(&entry.pool, None)?;
    }
    Ok(())
}
