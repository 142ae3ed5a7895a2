//! Which phase an encrypted connection is in, and what follows from what happens to it.
//!
//! ```text
//! Plain ─begin─> Handshake ─done─> Open ─close, EOF─> Flushing ──> Closing ──> (the transport below is closed)
//!                    └────────────── failure, abort, loss ──────────────> Plain
//! ```
//!
//! What happens below (bytes, EOF, loss, a full buffer) and above (close, abort, pause, resume) comes
//! in as calls; what is to be done goes out through [`Host`], which may come back here in the middle
//! of it. So nothing is borrowed across such a call, and every phase is looked up again after it.

use super::engine::{Failure, Step};
use std::cell::Cell;

/// What is being done on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is encrypted: not yet, or not any more.
    Plain,
    Handshake,
    Open,
    /// The connection ends: what is left is still read and written.
    Flushing,
    /// Both ends say that it ends.
    Closing,
}

/// What the program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// Nothing.
    Unaware,
    /// That the connection stands.
    Connected,
    /// That nothing more will come.
    Ended,
    /// That it is gone.
    Lost,
}

/// Which error ends a connection, for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// In the handshake.
    Handshake,
    /// While bytes went in or out, or the program's callbacks ran.
    Protocol,
    /// What the program's `eof_received` raised.
    EofCallback,
    /// While saying goodbye.
    Shutdown,
}

/// For how long the other end is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Handshake,
    Shutdown,
}

/// What was put off, so that it runs in no other's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    /// To be given back to [`Machine::go_on`].
    GoOn,
    /// Close the transport below.
    CloseBelow,
}

/// What a delivery has found at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Everything was delivered that could be.
    All,
    /// The program paused: there may be more.
    Held,
    /// And the other end will send no more.
    Closed,
}

/// What is around the machine.
pub trait Host {
    type Error;

    /// Goes on with the handshake.
    fn handshake(&self) -> Result<Step, Failure<Self::Error>>;
    /// Goes on with saying goodbye.
    fn unwrap(&self) -> Result<Step, Failure<Self::Error>>;
    /// Decrypts what has come and gives it to the program, until it wants no more.
    fn deliver(&self) -> Result<Delivered, Self::Error>;
    /// Encrypts what waits for it.
    fn encrypt(&self) -> Result<(), Self::Error>;
    /// Gives what is encrypted to the transport below, if that takes any; tells the program to pause or to go on.
    fn send(&self) -> Result<(), Self::Error>;
    /// Stops or goes on to read below, by how much waits to be decrypted.
    fn control_below(&self) -> Result<(), Self::Error>;

    /// The handshake is done: learns what there is to know. Its failure is the handshake's.
    fn established(&self) -> Result<(), Self::Error>;
    /// Tells the program that the connection stands.
    fn tell_connected(&self) -> Result<(), Self::Error>;
    /// Tells the program that nothing more will come.
    fn tell_ended(&self) -> Result<(), Self::Error>;
    /// Tells who waits for the handshake that it is done.
    fn tell_waiter(&self) -> Result<(), Self::Error>;
    /// The other end has gone in the middle of the handshake.
    fn handshake_cut_off(&self) -> Self::Error;
    /// Ends the connection below with this error and tells of it; after [`Fault::Handshake`] also who waits.
    fn fatal(&self, error: Self::Error, fault: Fault) -> Result<(), Self::Error>;
    /// Whether the error ends this connection and nothing else; any other passes through.
    fn is_reportable(&self, error: &Self::Error, fault: Fault) -> bool;

    fn start_timer(&self, limit: Limit) -> Result<(), Self::Error>;
    fn stop_timer(&self);
    fn has_timer(&self) -> bool;
    fn later(&self, what: Later) -> Result<(), Self::Error>;
    /// Closes the transport below at once, without an error.
    fn abort_below(&self) -> Result<(), Self::Error>;
}

/// The state of one connection.
#[derive(Debug)]
pub struct Machine {
    phase: Cell<Phase>,
    app: Cell<App>,
    /// The transport below has nothing more to read.
    ended_below: Cell<bool>,
    /// The program wants nothing delivered.
    paused: Cell<bool>,
    /// The program has closed the connection, or it is over.
    closed: Cell<bool>,
}

impl Machine {
    /// `connected`: the program knows the connection already, from before it was encrypted.
    pub fn new(connected: bool) -> Machine {
        Machine {
            phase: Cell::new(Phase::Plain),
            app: Cell::new(if connected {
                App::Connected
            } else {
                App::Unaware
            }),
            ended_below: Cell::new(false),
            paused: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    #[inline]
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub fn app(&self) -> App {
        self.app.get()
    }

    #[inline]
    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether what the program writes is of any use.
    #[inline]
    pub fn takes_writes(&self) -> bool {
        matches!(self.phase.get(), Phase::Handshake | Phase::Open)
    }

    /// Whether bytes can be encrypted and decrypted.
    #[inline]
    pub fn is_flowing(&self) -> bool {
        matches!(self.phase.get(), Phase::Open | Phase::Flushing)
    }

    // --- what happens below

    /// The transport below stands.
    pub fn begin<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        self.phase.set(Phase::Handshake);
        host.start_timer(Limit::Handshake)?;
        self.shake(host)
    }

    /// Encrypted bytes have come.
    #[inline]
    pub fn received<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        match self.phase.get() {
            Phase::Open => self.read(host).map(drop),
            Phase::Handshake => self.shake(host),
            Phase::Flushing => self.flush(host),
            Phase::Closing => self.say_goodbye(host),
            Phase::Plain => Ok(()),
        }
    }

    /// No more bytes will come. Says whether the transport below is to stay open.
    pub fn ended<H: Host>(&self, host: &H) -> Result<bool, H::Error> {
        self.ended_below.set(true);
        match self.phase.get() {
            Phase::Handshake => {
                let cut_off = host.handshake_cut_off();
                self.shaken(host, Err(cut_off))?;
            }
            Phase::Open => {
                self.written(host)?;
                if self.phase.get() != Phase::Open {
                    return Ok(false);
                }
                self.phase.set(Phase::Flushing);
                self.flush(host)?;
                // What has come is still to be read.
                return Ok(self.phase.get() == Phase::Flushing);
            }
            Phase::Flushing => {
                host.encrypt()?;
                host.send()?;
                self.close_now(host)?;
            }
            Phase::Closing => self.say_goodbye(host)?,
            Phase::Plain => {}
        }
        Ok(false)
    }

    /// The transport below is gone. Says whether the program is to be told: it is, unless it never knew.
    pub fn lost<H: Host>(&self, host: &H) -> bool {
        self.closed.set(true);
        let knew = matches!(self.app.get(), App::Connected | App::Ended);
        let tell = knew && self.phase.get() != Phase::Handshake;
        if tell {
            self.app.set(App::Lost);
        }
        self.phase.set(Phase::Plain);
        host.stop_timer();
        tell
    }

    /// The timer has gone off: which of the limits was passed.
    pub fn overdue(&self) -> Option<Limit> {
        match self.phase.get() {
            Phase::Handshake => Some(Limit::Handshake),
            Phase::Flushing | Phase::Closing => Some(Limit::Shutdown),
            Phase::Plain | Phase::Open => None,
        }
    }

    // --- what the program does

    /// `close()`: what was written goes out, both ends say goodbye.
    pub fn close<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        if self.closed.replace(true) {
            return Ok(());
        }
        if self.phase.get() == Phase::Flushing {
            // The other end has gone while the program was pausing: nobody else would go on.
            host.start_timer(Limit::Shutdown)?;
            return self.flush(host);
        }
        self.shut_down(host)
    }

    /// The connection is over at once; the caller ends the one below.
    pub fn abort(&self) {
        self.closed.set(true);
        self.phase.set(Phase::Plain);
    }

    /// Nothing is delivered from now on.
    pub fn pause(&self) {
        self.paused.set(true);
    }

    /// Delivers again, soon.
    pub fn resume<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        if self.paused.replace(false) {
            return host.later(Later::GoOn);
        }
        Ok(())
    }

    /// Goes on after a pause.
    pub fn go_on<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        match self.phase.get() {
            Phase::Open => self.read(host).map(drop),
            Phase::Flushing => self.flush(host),
            Phase::Closing => self.say_goodbye(host),
            Phase::Plain | Phase::Handshake => Ok(()),
        }
    }

    /// The program has something to send.
    #[inline]
    pub fn written<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        if self.phase.get() != Phase::Open {
            return Ok(());
        }
        let sent = host.encrypt().and_then(|()| host.send());
        sent.or_else(|error| self.fail(host, error, Fault::Protocol))
    }

    /// A write has failed.
    pub fn broken<H: Host>(&self, host: &H, error: H::Error) -> Result<(), H::Error> {
        self.fail(host, error, Fault::Protocol)
    }

    // --- what follows

    fn shake<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        let step = host.handshake();
        if self.phase.get() != Phase::Handshake {
            // A callback has ended the connection in the meantime.
            return match step {
                Err(Failure::Other(error)) => Err(error),
                _ => Ok(()),
            };
        }
        match step {
            Ok(Step::Blocked) => host.send(),
            Ok(Step::Done) => self.shaken(host, Ok(())),
            Err(Failure::Protocol(error)) => self.shaken(host, Err(error)),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    fn shaken<H: Host>(&self, host: &H, outcome: Result<(), H::Error>) -> Result<(), H::Error> {
        host.stop_timer();
        let outcome = outcome.and_then(|()| host.established());
        if let Err(error) = outcome {
            self.phase.set(Phase::Plain);
            return host.fatal(error, Fault::Handshake);
        }
        self.phase.set(Phase::Open);
        if self.app.get() == App::Unaware {
            self.app.set(App::Connected);
            host.tell_connected()?;
        }
        host.tell_waiter()?;
        self.read(host).map(drop)
    }

    /// Delivers what can be, and sends what that has led to. Says whether the program has held something up.
    #[inline]
    fn read<H: Host>(&self, host: &H) -> Result<bool, H::Error> {
        if !self.is_flowing() {
            return Ok(false);
        }
        let moved = self.deliver_and_send(host);
        moved.or_else(|error| self.fail(host, error, Fault::Protocol).map(|()| false))
    }

    #[inline]
    fn deliver_and_send<H: Host>(&self, host: &H) -> Result<bool, H::Error> {
        let mut held = self.paused.get();
        if !held {
            match host.deliver()? {
                Delivered::All => {}
                Delivered::Held => held = true,
                Delivered::Closed => {
                    self.call_ended(host)?;
                    self.shut_down(host)?;
                }
            }
            if self.is_flowing() {
                host.encrypt()?;
            }
            host.send()?;
        }
        host.control_below()?;
        Ok(held)
    }

    fn shut_down<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        match self.phase.get() {
            Phase::Plain | Phase::Flushing | Phase::Closing => return Ok(()),
            Phase::Handshake => {
                self.abort();
                return host.abort_below();
            }
            Phase::Open => {}
        }
        // First, since nothing is encrypted below for a program that has paused.
        self.written(host)?;
        if self.phase.get() != Phase::Open {
            return Ok(());
        }
        self.closed.set(true);
        self.phase.set(Phase::Flushing);
        host.start_timer(Limit::Shutdown)?;
        self.flush(host)
    }

    /// Delivers what is left, and then ends; a program that pauses and has not closed gets the rest later.
    fn flush<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        if self.read(host)? && !self.closed.get() {
            return Ok(());
        }
        self.close_now(host)
    }

    fn close_now<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        if self.phase.get() != Phase::Flushing {
            // What was called in between has gone further than that.
            return Ok(());
        }
        self.phase.set(Phase::Closing);
        self.say_goodbye(host)
    }

    fn say_goodbye<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        if !self.ended_below.get() {
            match host.unwrap() {
                Ok(Step::Blocked) => return host.send(),
                Ok(Step::Done) => {}
                Err(Failure::Protocol(error)) => {
                    host.stop_timer();
                    return host.fatal(error, Fault::Shutdown);
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        host.send()?;
        self.call_ended(host)?;
        // The transport below sends what is left first, which a peer that does not read may hold up for ever.
        if !host.has_timer() && self.phase.get() == Phase::Closing {
            host.start_timer(Limit::Shutdown)?;
        }
        host.later(Later::CloseBelow)
    }

    fn call_ended<H: Host>(&self, host: &H) -> Result<(), H::Error> {
        if self.app.get() != App::Connected {
            return Ok(());
        }
        self.app.set(App::Ended);
        let told = host.tell_ended();
        told.or_else(|error| self.fail(host, error, Fault::EofCallback))
    }

    /// Ends the connection by an error, unless that concerns more than this connection.
    fn fail<H: Host>(&self, host: &H, error: H::Error, fault: Fault) -> Result<(), H::Error> {
        if host.is_reportable(&error, fault) {
            return host.fatal(error, fault);
        }
        Err(error)
    }
}
