//! The parts of an event loop that know nothing of Python.
//!
//! Deadlines are `u64` nanoseconds of one [`clock`]. Time and bytes are arguments: everything but
//! the system calls themselves is tested with a manual clock and scripted readiness.
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("ioxide-core needs Linux: epoll, eventfd and pidfd");

pub mod buffer;
pub mod clock;
pub mod driver;
pub mod files;
pub mod net;
pub mod pool;
pub mod process;
pub mod register;
pub mod sys;
pub mod timers;
pub mod tls;
