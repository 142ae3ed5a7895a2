//! What Python code sees of a `SubprocessTransport`.

use super::transport::SubprocessTransport;
use super::waiting::Exit;
use crate::kit::{err, ffi, value, Any, Args, Class, ClassSpec, Native, Obj, PyResult, Signature};
use crate::transport::channel::base_class;
use crate::{intern, raise};
use std::mem::offset_of;

type This = SubprocessTransport;

impl SubprocessTransport {
    /// `repr()`.
    fn show(&self) -> PyResult<Obj> {
        let class = self.as_any().class().attr(intern!("__name__"))?;
        let mut text = format!("<{}", class.str_text());
        if self.closed.get() {
            text += " closed";
        }
        text += &format!(" pid={}", self.pid()?.repr_text());
        match self.returncode.get() {
            Some(code) => text += &format!(" returncode={code}"),
            None => text += " running",
        }
        for (name, pipe) in ["stdin", "stdout", "stderr"].iter().zip(&self.pipes) {
            if let Some(pipe) = pipe.get() {
                text += &format!(" {name}={}", pipe.str_text());
            }
        }
        value::str(&(text + ">"))
    }

    fn extra_info(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<2> = Signature::new("get_extra_info", ["name", "default"], 1);
        let [name, default] = args.bind(&SIGNATURE)?;
        let name = name.map_or_else(Obj::none, Any::own);
        if name.is_str() && name.to_str()? == "subprocess" {
            return self.popen();
        }
        let found = self.extra()?.dict_get(&name)?;
        Ok(found.unwrap_or_else(|| default.map_or_else(Obj::none, Any::own)))
    }

    fn pipe(&self, fd: &Any) -> PyResult<Obj> {
        // Any other number has none.
        let fd = fd.to_i64().or_else(|raised| {
            err::discard(raised);
            Ok(-1)
        })?;
        let pipe = usize::try_from(fd).ok().and_then(|fd| self.pipes.get(fd));
        Ok(pipe.map_or_else(Obj::none, |pipe| pipe.get_or_none()))
    }

    fn send_signal(&self, signal: &Any) -> PyResult<()> {
        let number = i32::try_from(signal.to_i64()?)
            .map_err(|_| raise!(err::overflow_error(), "signal number out of range"))?;
        self.send(number)
    }

    fn pipe_connected(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> = Signature::new("_set_pipe", ["fd", "pipe"], 2);
        if let [Some(fd), Some(pipe)] = args.bind(&SIGNATURE)? {
            self.set_pipe(usize::try_from(fd.to_i64()?).unwrap_or(usize::MAX), pipe);
        }
        Ok(())
    }

    fn pipe_connection_lost(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> = Signature::new("_pipe_connection_lost", ["fd", "exc"], 2);
        match args.bind(&SIGNATURE)? {
            [Some(fd), Some(exception)] => self.pipe_lost(fd, exception),
            _ => Ok(()),
        }
    }

    fn pipe_data_received(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> = Signature::new("_pipe_data_received", ["fd", "data"], 2);
        let [Some(fd), Some(data)] = args.bind(&SIGNATURE)? else {
            return Ok(());
        };
        let received = self
            .protocol
            .get_or_none()
            .attr(intern!("pipe_data_received"))?;
        self.tell(&received, &[fd, data])
    }

    fn shown_waiters(&self) -> PyResult<Obj> {
        match self.returncode.get() {
            Some(_) => Ok(Obj::none()),
            None => self.waiters.list(),
        }
    }

    fn shown_popen(&self) -> PyResult<Obj> {
        if self.protocol.is_empty() {
            return Ok(Obj::none());
        }
        self.popen()
    }
}

/// Of every subprocess transport.
fn public() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(args This, "get_extra_info", This::extra_info,
            "get_extra_info($self, name, default=None)\n--\n\nThe process as a subprocess.Popen for the name \
                \"subprocess\", the default for any other."),
        crate::method!(given This, "set_protocol", "protocol",
            |this: &This, protocol: &Any| this.protocol.set(protocol.own()), "Sets the protocol."),
        crate::method!(noargs This, "get_protocol",
            |this: &This| this.protocol.get_or_none(), "The protocol."),
        crate::method!(noargs This, "is_closing", |this: &This| this.closed.get(),
            "Whether close() was called, or everything is over."),
        crate::method!(noargs This, "close", This::close,
            "Closes the pipes, and kills the process if it still runs."),
        crate::method!(noargs This, "get_pid", This::pid, "The process's number."),
        crate::method!(noargs This, "get_returncode", This::shown_returncode,
            "The return code, None while the process runs."),
        crate::method!(given This, "get_pipe_transport", "fd", This::pipe,
            "The transport of the pipe to the child's descriptor fd, or None."),
        crate::method!(given This, "send_signal", "signal", This::send_signal,
            "Sends the signal, unless the process has exited; ProcessLookupError once its pipes are closed \
                too."),
        crate::method!(noargs This, "terminate", |this: &This| this.send(libc::SIGTERM),
            "Sends SIGTERM, as send_signal() does."),
        crate::method!(noargs This, "kill", |this: &This| this.send(libc::SIGKILL),
            "Sends SIGKILL, as send_signal() does."),
    ]
}

/// What the ends of pipes and the loop call.
fn private() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(noargs This, "_wait", Exit::of,
            "Waits until the process has exited, and returns its return code."),
        crate::method!(noargs This, "_call_connection_lost", This::connection_lost,
            "The last call of the protocol."),
        crate::method!(args This, "_set_pipe", This::pipe_connected,
            "The pipe has a transport."),
        crate::method!(args This, "_pipe_connection_lost", This::pipe_connection_lost,
            "The pipe is closed."),
        crate::method!(args This, "_pipe_data_received", This::pipe_data_received,
            "The pipe has brought bytes."),
    ]
}

fn properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        crate::getter!(
            This,
            "_extra",
            This::extra,
            This::set_extra,
            "What get_extra_info() knows."
        ),
        crate::getter!(
            This,
            "_loop",
            |this: &This| this.event_loop.get_or_none(),
            "The loop; None after the end."
        ),
        crate::getter!(
            This,
            "_protocol",
            |this: &This| this.protocol.get_or_none(),
            "The protocol; None after the end."
        ),
        crate::getter!(
            This,
            "_proc",
            This::shown_popen,
            "The process as a Popen; None after the end."
        ),
        crate::getter!(This, "_pid", This::pid, "The process's number."),
        crate::getter!(
            This,
            "_returncode",
            This::shown_returncode,
            "The return code, None while the process runs."
        ),
        crate::getter!(
            This,
            "_closed",
            |this: &This| this.closed.get(),
            "Whether close() was called, or everything is over."
        ),
        crate::getter!(
            This,
            "_exit_waiters",
            This::shown_waiters,
            "Who waits for the end of the process; None after it."
        ),
    ]
}

pub(super) fn build(place: &'static Class) -> PyResult<()> {
    ClassSpec::new::<This>(c"ioxide.SubprocessTransport")
        .base(&*base_class("SubprocessTransport")?)
        .doc(
            c"A child process, its pipes, and the protocol that is told about them.\n\nAs \
                asyncio.SubprocessTransport: not thread-safe.",
        )
        .dict(offset_of!(This, dict))
        .weak(offset_of!(This, weak))
        .slot(ffi::Py_tp_repr, crate::unary!(This, This::show))
        .coroutines(["_wait"])
        .methods(public())
        .methods(private())
        .getset(properties())
        .build(place)?;
    Ok(())
}
