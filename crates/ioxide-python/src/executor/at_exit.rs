//! Threads are joined before the interpreter goes: a worker must not meet it half-dismantled.

use super::worker::Ticket;
use crate::fork;
use crate::kit::{err, gil, PyResult};
use crate::raise;
use ioxide_core::pool::Pool;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// `_join_workers()`: runs what is queued, waits for all threads. `threading` calls it at exit.
pub(crate) fn join_all() {
    OVER.store(true, Ordering::Relaxed);
    let pools = std::mem::take(&mut *POOLS.lock().unwrap_or_else(PoisonError::into_inner));
    for entry in pools {
        if entry.generation != fork::generation() {
            std::mem::forget(entry);
            continue;
        }
        drop(entry.pool.shutdown(false));
        let pool = &entry.pool;
        gil::released(|| pool.join(None));
    }
}
