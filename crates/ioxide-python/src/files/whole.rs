//! Whole operations: what of them happens under the interpreter lock, before and after the core's part.

use crate::import;
use crate::kit::audit;
use crate::kit::buffer::Buffer;
use crate::kit::path::Path;
use crate::kit::{err, gil, value, Any, Obj, PyResult, Raised};
use ioxide_core::files::cached::{self, Outcome};
use ioxide_core::files::copy::{self, NotCopied};
use ioxide_core::files::local::{self, Directories, Kind, Place};
use ioxide_core::files::read::Source;
use ioxide_core::files::write::{Mode, Target};
use ioxide_core::files::Failure;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One whole operation, as it was asked for.
pub(crate) enum Whole {
    Read {
        path: Obj,
        /// Called with the bytes, for the result.
        after: Option<Obj>,
    },
    Write {
        path: Obj,
        data: Obj,
        mode: Mode,
    },
    Copy {
        source: Obj,
        target: Obj,
    },
}

/// One whole operation, ready to run.
pub(crate) enum Prepared {
    Read {
        path: Path,
        after: Option<Obj>,
        /// What is open already.
        source: Option<Source>,
        /// Set if it is to find out about the directory.
        explores: Option<Exploration>,
    },
    Write {
        path: Path,
        data: Buffer,
        mode: Mode,
        /// What is open already.
        target: Option<Target>,
        /// Set if it is to find out about the directory.
        explores: Option<Exploration>,
    },
    Copy {
        source: Path,
        target: Path,
    },
}

static ALLOW_CACHED: AtomicBool = AtomicBool::new(true);
static DIRECTORIES: Mutex<Option<Directories>> = Mutex::new(None);

/// An operation on its way to a thread, which will find out about a directory. While there is one, others of a
/// crowd may wait for what it finds.
pub(crate) struct Exploration(());

static EXPLORATIONS: AtomicUsize = AtomicUsize::new(0);

impl Exploration {
    fn begin() -> Exploration {
        EXPLORATIONS.fetch_add(1, Ordering::Relaxed);
        Exploration(())
    }
}

impl Drop for Exploration {
    fn drop(&mut self) {
        EXPLORATIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an attempt to do without a thread came to.
pub(super) enum Attempt {
    Done(Obj),
    /// Something is being found out: to be tried again in the next turn.
    Later,
    /// It takes a thread.
    Thread,
}

/// Whether files in memory may be read without a thread; what was allowed before.
pub(super) fn allow_cached(allowed: bool) -> bool {
    ALLOW_CACHED.swap(allowed, Ordering::Relaxed)
}

fn directories() -> MutexGuard<'static, Option<Directories>> {
    DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owned(object: Option<&Any>) -> Obj {
    object.map_or_else(Obj::none, Any::own)
}

impl Whole {
    pub(super) fn read(path: Option<&Any>, after: Option<&Any>) -> Whole {
        Whole::Read {
            path: owned(path),
            after: after.and_then(Any::some).map(Any::own),
        }
    }

    pub(super) fn write(path: Option<&Any>, data: Option<&Any>, mode: Mode) -> Whole {
        Whole::Write {
            path: owned(path),
            data: owned(data),
            mode,
        }
    }

    pub(super) fn copy(source: Option<&Any>, target: Option<&Any>) -> Whole {
        Whole::Copy {
            source: owned(source),
            target: owned(target),
        }
    }

    /// Turns arguments into what the system takes, and asks audit hooks.
    pub(super) fn prepare(self) -> PyResult<Prepared> {
        match self {
            Whole::Read { path, after } => {
                let path = Path::of(&path)?;
                audit::open(&path.name, c"rb", libc::O_RDONLY | libc::O_CLOEXEC)?;
                Ok(Prepared::Read {
                    path,
                    after,
                    source: None,
                    explores: None,
                })
            }
            Whole::Write { path, data, mode } => {
                let path = Path::of(&path)?;
                let data = Buffer::readable(&data)?;
                audit_write(&path, mode)?;
                Ok(Prepared::Write {
                    path,
                    data,
                    mode,
                    target: None,
                    explores: None,
                })
            }
            Whole::Copy { source, target } => {
                let (source, target) = (Path::of(&source)?, Path::of(&target)?);
                audit::open(&source.name, c"rb", libc::O_RDONLY | libc::O_CLOEXEC)?;
                audit_write(&target, Mode::Replace)?;
                Ok(Prepared::Copy { source, target })
            }
        }
    }
}

fn audit_write(path: &Path, mode: Mode) -> PyResult<()> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
    match mode {
        Mode::Replace => audit::open(&path.name, c"wb", flags | libc::O_TRUNC),
        Mode::Append => audit::open(&path.name, c"ab", flags | libc::O_APPEND),
    }
}

impl Prepared {
    /// On the loop's thread: does it, if that needs no waiting.
    pub(super) fn attempt(&mut self, is_patient: bool) -> PyResult<Attempt> {
        if !ALLOW_CACHED.load(Ordering::Relaxed) {
            return Ok(Attempt::Thread);
        }
        let (path, explores) = match self {
            Prepared::Read { path, explores, .. } | Prepared::Write { path, explores, .. } => {
                (path, explores)
            }
            Prepared::Copy { .. } => return Ok(Attempt::Thread),
        };
        let Some(place) = place_of(path) else {
            if is_patient && EXPLORATIONS.load(Ordering::Relaxed) > 0 {
                return Ok(Attempt::Later);
            }
            *explores = Some(Exploration::begin());
            return Ok(Attempt::Thread);
        };
        let done = match self {
            Prepared::Read {
                path,
                after,
                source,
                ..
            } if place.kind != Kind::Other => read_at_once(path, place, after.as_deref(), source)?,
            Prepared::Write {
                path,
                data,
                mode,
                target,
                ..
            } if place.kind == Kind::Memory && data.len() <= cached::MOST => {
                write_at_once(path, place, data, *mode, target)?
            }
            _ => None,
        };
        Ok(done.map_or(Attempt::Thread, Attempt::Done))
    }

    /// On a thread that may wait: does it.
    pub(super) fn perform(self) -> PyResult<Obj> {
        match self {
            Prepared::Read {
                path,
                after,
                source,
                explores,
            } => {
                let bytes = read(&path, source, explores)?;
                transformed(bytes, after.as_deref())
            }
            Prepared::Write {
                path,
                data,
                mode,
                target,
                explores,
            } => write(&path, &data, mode, target, explores),
            Prepared::Copy { source, target } => {
                let (from, to) = (&*source.system, &*target.system);
                match gil::released(|| copy::copy(from, to)) {
                    Ok(count) => value::int(count as i64),
                    Err(NotCopied::Source(failure)) => Err(raise(&failure, &source)),
                    Err(NotCopied::Target(failure)) => Err(raise(&failure, &target)),
                    Err(NotCopied::SameFile) => Err(same_file(&source, &target)),
                }
            }
        }
    }
}

fn transformed(bytes: Obj, after: Option<&Any>) -> PyResult<Obj> {
    match after {
        Some(after) => after.call1(&bytes),
        None => Ok(bytes),
    }
}

/// What is known of the file's directory.
fn place_of(path: &Path) -> Option<Place> {
    let system = path.system.as_bytes();
    directories()
        .get_or_insert_default()
        .look_up(system, Instant::now())
}

fn note(path: &Path, place: Option<Place>) {
    if let Some(place) = place {
        let system = path.system.as_bytes();
        directories()
            .get_or_insert_default()
            .note(system, place, Instant::now());
    }
}

fn explored(fd: &OwnedFd, device: u64) -> Place {
    Place {
        device,
        kind: local::kind_of(fd).unwrap_or(Kind::Other),
    }
}

fn read_at_once(
    path: &Path,
    place: Place,
    after: Option<&Any>,
    source: &mut Option<Source>,
) -> PyResult<Option<Obj>> {
    let Some(opened) = cached::open(&path.system) else {
        return Ok(None);
    };
    let (identity, expected) = (opened.identity(), opened.expected());
    if identity.device == place.device && (1..=cached::MOST).contains(&expected) {
        let read = value::bytes_filled(expected, |room| {
            match opened.read_cached(room, place.kind) {
                Outcome::Whole => Ok(room.len()),
                outcome => Err(outcome),
            }
        })?;
        match read {
            Ok(bytes) => return transformed(bytes, after).map(Some),
            Err(Outcome::Unsupported) => note(
                path,
                Some(Place {
                    kind: Kind::Other,
                    ..place
                }),
            ),
            Err(_) => {}
        }
    }
    *source = Some(opened);
    Ok(None)
}

fn write_at_once(
    path: &Path,
    place: Place,
    data: &Buffer,
    mode: Mode,
    target: &mut Option<Target>,
) -> PyResult<Option<Obj>> {
    let Some(opened) = cached::open_to_write(&path.system, mode) else {
        return Ok(None);
    };
    let identity = opened.identity();
    if identity.device != place.device || !identity.is_regular() {
        *target = Some(opened);
        return Ok(None);
    }
    match opened.write(data.bytes(), mode) {
        Ok(count) => value::int(count as i64).map(Some),
        Err(error) => Err(err::raise_os(&error)),
    }
}

fn write(
    path: &Path,
    data: &Buffer,
    mode: Mode,
    target: Option<Target>,
    explores: Option<Exploration>,
) -> PyResult<Obj> {
    let (system, bytes) = (&*path.system, data.bytes());
    let (place, result) = gil::released(|| {
        let opened = match target {
            Some(target) => target.settle(),
            None => Target::open(system, mode),
        };
        match opened {
            Ok(target) => {
                let device = target.identity().device;
                let place = explores.as_ref().map(|_| explored(target.fd(), device));
                (place, target.write(bytes, mode).map_err(Failure::Transfer))
            }
            Err(error) => (None, Err(Failure::Open(error))),
        }
    });
    note(path, place);
    match result {
        Ok(count) => value::int(count as i64),
        Err(failure) => Err(raise(&failure, path)),
    }
}

/// The bytes are read to where they will stay: an object of the right size is made once that is known.
fn read(path: &Path, source: Option<Source>, explores: Option<Exploration>) -> PyResult<Obj> {
    let system = &*path.system;
    let opened = gil::released(|| -> io::Result<(Source, Option<Place>)> {
        let source = match source {
            Some(source) => source.settle(system)?,
            None => Source::open(system)?,
        };
        let place = explores
            .as_ref()
            .map(|_| explored(source.fd(), source.identity().device));
        Ok((source, place))
    });
    let (source, place) = match opened {
        Ok(opened) => opened,
        Err(error) => return Err(err::raise_os_named(&error, &path.name)),
    };
    note(path, place);
    drop(explores);
    let mut beyond = Vec::new();
    let read = value::bytes_filled(source.expected(), |room| {
        gil::released(|| {
            let result = source.read_to_end(room);
            drop(source);
            result.map(|(filled, rest)| {
                beyond = rest;
                filled
            })
        })
    })?;
    match read {
        Ok(bytes) if beyond.is_empty() => Ok(bytes),
        Ok(bytes) => value::bytes_joined(bytes.bytes_content(), &beyond),
        Err(error) => Err(err::raise_os(&error)),
    }
}

fn raise(failure: &Failure, path: &Path) -> Raised {
    match failure {
        Failure::Open(error) => err::raise_os_named(error, &path.name),
        Failure::Transfer(error) => err::raise_os(error),
    }
}

/// As `shutil.copyfile` has it.
fn same_file(source: &Path, target: &Path) -> Raised {
    let class = match import!("shutil", "SameFileError") {
        Ok(class) => class,
        Err(raised) => return raised,
    };
    let message = format!(
        "{} and {} are the same file",
        source.name.repr_text(),
        target.name.repr_text()
    );
    err::raise(class, &message)
}
