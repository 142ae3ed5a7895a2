//! What the machine asks for, done with the engine, the program's protocol and the transport below.

use super::transport::TlsTransport;
use crate::kit::{err, value, Any, Native, Obj, PyResult, Raised};
use crate::task::step;
use crate::{import, intern};
use ioxide_core::tls::engine::{Engine, Failure, Step};
use ioxide_core::tls::machine::{Delivered, Fault, Host, Later, Limit, Phase};

impl Host for TlsTransport {
    type Error = Raised;

    fn handshake(&self) -> Result<Step, Failure<Raised>> {
        self.give_room();
        self.engine.handshake()
    }

    fn unwrap(&self) -> Result<Step, Failure<Raised>> {
        self.give_room();
        self.engine.unwrap()
    }

    #[inline]
    fn deliver(&self) -> PyResult<Delivered> {
        self.deliver_plain()
    }

    #[inline]
    fn encrypt(&self) -> PyResult<()> {
        self.encrypt_backlog()
    }

    #[inline]
    fn send(&self) -> PyResult<()> {
        self.send_output()?;
        self.update_marks()
    }

    #[inline]
    fn control_below(&self) -> PyResult<()> {
        let waiting = self.engine.arrived();
        if waiting == 0 && !self.below_paused.get() {
            return Ok(());
        }
        let (high, low) = self.read_marks.get();
        let pause = waiting >= high;
        if pause == self.below_paused.get() || (!pause && waiting > low) {
            return Ok(());
        }
        let Some(below) = self.below.get() else {
            return Ok(());
        };
        self.below_paused.set(pause);
        let method = if pause {
            intern!("pause_reading")
        } else {
            intern!("resume_reading")
        };
        below.method0(method).map(drop)
    }

    fn established(&self) -> PyResult<()> {
        self.established.set(true);
        let begun = self.begun_at.get();
        if begun == 0 || !self.is_debug() {
            return Ok(());
        }
        let now = self.with_loop(|event_loop| Ok(event_loop.clock.now()))?;
        let milliseconds = value::float(now.saturating_sub(begun) as f64 / 1e6)?;
        let format = value::str("%r: SSL handshake took %.1f ms")?;
        import!("asyncio.log", "logger")?
            .method(intern!("debug"), &[&*format, self.as_any(), &*milliseconds])
            .map(drop)
    }

    fn tell_connected(&self) -> PyResult<()> {
        let protocol = self.protocol.get_or_none();
        protocol
            .method(intern!("connection_made"), &[self.as_any()])
            .map(drop)
    }

    fn tell_ended(&self) -> PyResult<()> {
        let Some(protocol) = self.protocol.get() else {
            return Ok(());
        };
        if protocol.method0(intern!("eof_received"))?.truthy()? {
            let text = "returning true from eof_received() has no effect when using ssl";
            import!("asyncio.log", "logger")?.method(intern!("warning"), &[&*value::str(text)?])?;
        }
        Ok(())
    }

    fn tell_waiter(&self) -> PyResult<()> {
        self.wake_waiter(None)
    }

    fn handshake_cut_off(&self) -> Raised {
        err::raise_bare(err::connection_reset())
    }

    fn fatal(&self, error: Raised, fault: Fault) -> PyResult<()> {
        self.end_by(error, fault)
    }

    fn is_reportable(&self, _error: &Raised, fault: Fault) -> bool {
        match fault {
            Fault::EofCallback => {
                !err::matches(err::keyboard_interrupt()) && !err::matches(err::system_exit())
            }
            _ => err::matches(err::exception()),
        }
    }

    fn start_timer(&self, limit: Limit) -> PyResult<()> {
        self.set_timer(limit)
    }

    fn stop_timer(&self) {
        self.clear_timer();
    }

    fn has_timer(&self) -> bool {
        TlsTransport::has_timer(self)
    }

    fn later(&self, what: Later) -> PyResult<()> {
        self.put_off(what)
    }

    fn abort_below(&self) -> PyResult<()> {
        self.end_below(None)
    }
}

impl TlsTransport {
    /// Ends the connection by an error, and tells of it unless it is the network's.
    #[cold]
    pub(super) fn end_by(&self, error: Raised, fault: Fault) -> PyResult<()> {
        let exception = err::take(error);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        self.say_last_words();
        // The report names the transport below, which may be gone after it is closed.
        let below = self.below.get();
        let ended = self.end_below(Some(&exception)).map_err(err::take);
        self.tell_of(&exception, fault, &below.unwrap_or_else(Obj::none))?;
        if fault == Fault::Handshake {
            self.wake_waiter(Some(&exception))?;
        }
        ended.map_err(err::restore)
    }

    /// What was written before the connection fails goes out, if it can still be encrypted.
    fn say_last_words(&self) {
        let encrypted = match self.machine.phase() {
            Phase::Open => self.encrypt_backlog().and_then(|()| self.send_output()),
            _ => Ok(()),
        };
        // Nobody is to try again.
        drop(self.backlog().clear());
        if let Err(raised) = encrypted.and_then(|()| self.flush_below()) {
            err::discard(raised);
        }
    }

    fn tell_of(&self, exception: &Any, fault: Fault, below: &Any) -> PyResult<()> {
        let message = match fault {
            Fault::Handshake if err::is_a(exception, import!("ssl", "CertificateError")?) => {
                "SSL handshake failed on verifying the certificate"
            }
            Fault::Handshake => "SSL handshake failed",
            Fault::Protocol => "Fatal error on SSL protocol",
            Fault::EofCallback => "Error calling eof_received()",
            Fault::Shutdown => "Fatal error on transport",
        };
        if err::is_a(exception, err::os_error()) {
            if !self.is_debug() {
                return Ok(());
            }
            let debug = import!("asyncio.log", "logger")?.attr(intern!("debug"))?;
            let (format, message) = (value::str("%r: %s")?, value::str(message)?);
            return debug
                .call_with(
                    &[&*format, self.as_any(), &*message],
                    &[(intern!("exc_info"), exception)],
                )
                .map(drop);
        }
        if err::is_a(exception, crate::errors::cancelled()?) {
            return Ok(());
        }
        self.with_loop(|event_loop| {
            let more = [
                (intern!("transport"), below),
                (intern!("protocol"), self.as_any()),
            ];
            crate::runtime::report::exception(event_loop, message, exception, &more)
        })
    }
}
