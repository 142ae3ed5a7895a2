//! What a stream protocol does for a server: it gives each client to the server's callback, runs what that returns,
//! and watches over it.

use super::protocol::StreamReaderProtocol;
use super::report;
use super::writer::StreamWriter;
use crate::future::{self, FutureView};
use crate::intern;
use crate::kit::{err, value, Any, Native, Obj, PyResult};
use crate::runtime::target::Told;
use crate::task;

// SAFETY: begins with `Target` made of its own kind.
unsafe impl Told for StreamReaderProtocol {
    /// The client's task is over.
    fn done(&self, task: &Any) -> PyResult<()> {
        let transport = self.client_transport.take().unwrap_or_else(Obj::none);
        if FutureView::exact(task).is_some_and(|view| view.base.has_returned()) {
            return Ok(());
        }
        if task.method0(intern!("cancelled"))?.truthy()? {
            return close(&transport);
        }
        let exception = task.method0(intern!("exception"))?;
        if exception.is_none() {
            return Ok(());
        }
        self.client_failed(&exception, &transport)
    }
}

impl StreamReaderProtocol {
    /// The program has forgotten the reader before there was a connection.
    #[cold]
    pub(super) fn reject(&self, transport: &Any) -> PyResult<()> {
        let message = value::str(
            "An open stream was garbage collected prior to establishing network connection; \
             call \"stream.close()\" explicitly.",
        )?;
        let mut entries = vec![(intern!("message"), &*message)];
        let source = self.source_traceback.get();
        if let Some(source) = &source {
            entries.push((intern!("source_traceback"), source));
        }
        report(&self.event_loop.get_or_none(), &entries)?;
        transport.method0(intern!("abort")).map(drop)
    }

    /// Calls the server's callback with the client's reader and writer.
    pub(super) fn client_connected(
        &self,
        client_connected: &Any,
        reader: Option<Obj>,
        transport: &Any,
    ) -> PyResult<()> {
        let event_loop = self.event_loop.get_or_none();
        let reader_or_none = reader.clone().unwrap_or_else(Obj::none);
        let writer = StreamWriter::new(transport, self.as_any(), reader, event_loop)?;
        match client_connected.call(&[&reader_or_none, writer.as_any()]) {
            Ok(result) if task::is_coroutine(&result)? => self.run_client(&result, transport),
            Ok(_) => Ok(()),
            Err(raised) if err::matches(err::exception()) => {
                let exception = err::take(raised);
                self.client_failed(&exception, transport)
            }
            Err(raised) => Err(raised),
        }
    }

    /// Runs the client's coroutine in a task, and watches over it.
    fn run_client(&self, coroutine: &Any, transport: &Any) -> PyResult<()> {
        let event_loop = self.event_loop.get_or_none();
        let task = crate::combine::ensure_future::spawn(&event_loop, coroutine)?;
        self.task.set(task.clone());
        self.client_transport.set(transport.own());
        let target = self.target();
        match FutureView::exact(&task) {
            Some(view) => future::waiters::add_target(view, &target),
            None => task
                .method(intern!("add_done_callback"), &[&*target.callable()?])
                .map(drop),
        }
    }

    /// Tells the loop's exception handler, and closes the connection.
    #[cold]
    fn client_failed(&self, exception: &Any, transport: &Any) -> PyResult<()> {
        let message = value::str("Unhandled exception in client_connected_cb")?;
        report(
            &self.event_loop.get_or_none(),
            &[
                (intern!("message"), &message),
                (intern!("exception"), exception),
                (intern!("transport"), transport),
            ],
        )?;
        close(transport)
    }
}

fn close(transport: &Any) -> PyResult<()> {
    transport.method0(intern!("close")).map(drop)
}
