//! The pipes of a child whose output goes into streams of ours: each has the protocol of a stream.

use super::object::BaseProcessStreams;
use super::spawn::ParentEnds;
use super::transport::SubprocessTransport;
use crate::intern;
use crate::kit::class::bound_function;
use crate::kit::{err, ffi, value, Any, Native, Obj, PyResult};
use crate::runtime::EventLoop;
use crate::streams::protocol::StreamReaderProtocol;
use crate::streams::reader::StreamReader;
use crate::streams::writer::StreamWriter;
use crate::transport::create::{child_input, child_output};
use crate::transport::descriptor::Descriptor;
use std::sync::OnceLock;

/// The parent's ends of the pipes.
pub(super) enum Source {
    /// Nobody has seen them yet.
    Fresh(ParentEnds),
    /// The files of a Popen, and whether the program has said nothing of how large the pipes are to be.
    Popen { files: [Obj; 3], may_grow: bool },
}

impl Source {
    /// Of a Popen of ours.
    pub(super) fn of(popen: &Any) -> PyResult<Source> {
        Ok(Source::Popen {
            files: [
                popen.attr(intern!("stdin"))?,
                popen.attr(intern!("stdout"))?,
                popen.attr(intern!("stderr"))?,
            ],
            may_grow: popen.attr(intern!("pipesize"))?.to_i64()? < 0,
        })
    }

    fn may_grow(&self) -> bool {
        match self {
            Source::Fresh(_) => true,
            Source::Popen { may_grow, .. } => *may_grow,
        }
    }

    fn descriptor(&mut self, fd: usize) -> PyResult<Option<Descriptor>> {
        match self {
            Source::Fresh(ends) => Ok(ends[fd].take().map(Descriptor::owned)),
            Source::Popen { files, .. } => {
                let file = files[fd].some();
                file.map(Descriptor::adopted).transpose()
            }
        }
    }

    /// The ends as files; those that there are not are None.
    pub(super) fn into_files(self) -> PyResult<Obj> {
        let files = match self {
            Source::Popen { files, .. } => files,
            Source::Fresh(ends) => {
                let [stdin, stdout, stderr] = ends.map(|end| end.map(Descriptor::owned));
                [
                    file(stdin, intern!("wb"))?,
                    file(stdout, intern!("rb"))?,
                    file(stderr, intern!("rb"))?,
                ]
            }
        };
        value::tuple_of(files.into_iter())
    }

    /// Closes the ends that are left.
    fn close(self) -> PyResult<()> {
        let Source::Popen { files, .. } = self else {
            return Ok(());
        };
        for file in files {
            if let Some(file) = file.some() {
                file.method0(intern!("close"))?;
            }
        }
        Ok(())
    }
}

fn file(end: Option<Descriptor>, mode: &Any) -> PyResult<Obj> {
    end.map_or_else(|| Ok(Obj::none()), |end| end.file(mode))
}

/// Connects the pipes to the streams of the protocol.
pub(super) fn open_streams(
    transport: &SubprocessTransport,
    streams: &BaseProcessStreams,
    mut source: Source,
) -> PyResult<()> {
    let event_loop = transport.event_loop.get_or_none();
    let Some(native) = EventLoop::of(&event_loop) else {
        return Ok(());
    };
    for fd in 0..transport.pipes.len() {
        let opened = open(transport, streams, native, fd, &mut source);
        if let Err(raised) = opened {
            let exception = err::take(raised);
            source.close()?;
            return Err(err::restore(exception));
        }
    }
    Ok(())
}

fn open(
    transport: &SubprocessTransport,
    streams: &BaseProcessStreams,
    native: &EventLoop,
    fd: usize,
    source: &mut Source,
) -> PyResult<()> {
    let Some(end) = source.descriptor(fd)? else {
        return Ok(());
    };
    let (event_loop, may_grow) = (native.as_any(), source.may_grow());
    let lost = when_lost(transport, fd)?;
    if fd == 0 {
        let protocol = StreamReaderProtocol::of_pipe(None, event_loop, lost)?;
        let pipe = child_input(native, protocol.as_any(), end, may_grow)?;
        transport.set_pipe(fd, &pipe);
        let writer = StreamWriter::new(&pipe, protocol.as_any(), None, event_loop.own())?;
        streams.stdin.set(writer.into_obj());
        return Ok(());
    }
    let limit = streams.limit.get();
    let reader = StreamReader::with(limit.as_deref(), event_loop)?;
    let protocol = StreamReaderProtocol::of_pipe(Some(&reader), event_loop, lost)?;
    let pipe = child_output(native, protocol.as_any(), end, may_grow)?;
    transport.set_pipe(fd, &pipe);
    let place = if fd == 1 {
        &streams.stdout
    } else {
        &streams.stderr
    };
    place.set(reader.into_obj());
    Ok(())
}

/// What the protocol of the stream calls when the pipe is closed.
fn when_lost(transport: &SubprocessTransport, fd: usize) -> PyResult<Obj> {
    type This = SubprocessTransport;
    static ENTRIES: OnceLock<Entries> = OnceLock::new();
    let Entries(entries) = ENTRIES.get_or_init(|| {
        Entries([
            crate::method!(onearg This, "_stdin_lost",
                |this: &This, _: &Any| this.stream_lost(0), "The pipe is closed."),
            crate::method!(onearg This, "_stdout_lost",
                |this: &This, _: &Any| this.stream_lost(1), "The pipe is closed."),
            crate::method!(onearg This, "_stderr_lost",
                |this: &This, _: &Any| this.stream_lost(2), "The pipe is closed."),
        ])
    });
    bound_function(&entries[fd.min(2)], transport.as_any())
}

/// Method table entries, which the interpreter wants to live for ever.
struct Entries([ffi::PyMethodDef; 3]);

// SAFETY: the entries are never written to.
unsafe impl Send for Entries {}
// SAFETY: as above.
unsafe impl Sync for Entries {}
