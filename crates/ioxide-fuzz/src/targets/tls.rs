//! The phases of an encrypted connection, under everything that can happen above and below it.
//!
//! The program is told things once and in order, nothing is asked of the engine in a phase that has
//! no place for it or while it is busy, and whoever closes a connection gets rid of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use ioxide_core::tls::engine::{Failure, Step};
use ioxide_core::tls::machine::{App, Delivered, Fault, Host, Later, Limit, Machine, Phase};

use super::Target;
use crate::corpus::Trace;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "tls",
    words: &[],
    run,
};

/// How deep the program's callbacks may lead back into the machine.
const DEEPEST: u8 = 3;

/// What an operation or a callback fails with.
#[derive(Debug, PartialEq, Eq)]
enum Bad {
    /// An exception like any other.
    Usual,
    /// One that leaves the loop, as Ctrl-C does.
    Leaving,
}

/// The transport below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Open,
    /// It is closed, and will say soon that it is gone.
    Ending,
    Lost,
}

struct World<'a, 'b> {
    machine: Machine,
    input: RefCell<&'a mut Input<'b>>,
    trace: RefCell<&'a mut Trace>,
    later: RefCell<VecDeque<Later>>,
    below: Cell<Below>,
    peer_ended: Cell<bool>,
    /// Something has come that was not decrypted.
    waiting: Cell<bool>,
    /// The peer has said that it will send no more.
    said_goodbye: Cell<bool>,
    timer: Cell<bool>,
    /// An operation of the engine runs.
    busy: Cell<bool>,
    depth: Cell<u8>,
    connected: Cell<bool>,
    ended: Cell<bool>,
    lost: Cell<bool>,
    /// An exception has left the loop in the middle of something.
    interrupted: Cell<bool>,
}

fn run(input: &mut Input<'_>, trace: &mut Trace) {
    let upgraded = input.one_in(4);
    let world = World {
        machine: Machine::new(upgraded),
        input: RefCell::new(input),
        trace: RefCell::new(trace),
        later: RefCell::default(),
        below: Cell::new(Below::Open),
        peer_ended: Cell::new(false),
        waiting: Cell::new(false),
        said_goodbye: Cell::new(false),
        timer: Cell::new(false),
        busy: Cell::new(false),
        depth: Cell::new(0),
        connected: Cell::new(upgraded),
        ended: Cell::new(false),
        lost: Cell::new(false),
        interrupted: Cell::new(false),
    };
    let begun = world.machine.begin(&world);
    world.below_called(begun);
    while !world.input.borrow().is_over() {
        world.event();
    }
    world.finish();
}

impl World<'_, '_> {
    /// A decision: true once in so many times.
    fn one_in(&self, times: usize) -> bool {
        self.input.borrow_mut().one_in(times)
    }

    fn choose(&self, limit: usize) -> usize {
        self.input.borrow_mut().below(limit)
    }

    fn note(&self, what: u64) {
        let phase = self.machine.phase() as u64;
        let app = self.machine.app() as u64;
        let flags = u64::from(self.machine.is_paused()) | u64::from(self.machine.is_closed()) << 1;
        let depth = u64::from(self.depth.get());
        let place = (((what * 8 + phase) * 4 + app) * 4 + flags) * 4 + depth;
        self.trace.borrow_mut().note(place);
    }

    /// Something happens between two callbacks of the loop.
    fn event(&self) {
        let what = self.choose(10);
        self.note(what as u64);
        match what {
            0 | 1 => self.receive(),
            2 => self.peer_ends(),
            3 => self.fire(),
            4 => self.go_on(),
            5 if self.below.get() == Below::Ending || self.one_in(3) => self.lose(),
            _ => drop(self.program_acts()),
        }
    }

    fn receive(&self) {
        if self.below.get() == Below::Open && !self.peer_ended.get() {
            self.waiting.set(!self.said_goodbye.get());
            self.below_called(self.machine.received(self));
        }
    }

    fn peer_ends(&self) {
        if self.below.get() != Below::Open || self.peer_ended.replace(true) {
            return;
        }
        match self.machine.ended(self) {
            Ok(true) => {}
            Ok(false) => self.end_below(),
            Err(error) => self.below_called(Err(error)),
        }
    }

    /// The transport below has called: an exception ends it.
    fn below_called(&self, outcome: Result<(), Bad>) {
        if let Err(error) = outcome {
            self.interrupted
                .set(self.interrupted.get() || error == Bad::Leaving);
            self.end_below();
        }
    }

    fn fire(&self) {
        if self.timer.replace(false) && self.machine.overdue().is_some() {
            self.end_below();
        }
    }

    fn go_on(&self) {
        let next = self.later.borrow_mut().pop_front();
        match next {
            Some(Later::GoOn) => {
                // The loop tells the exception handler, and goes on.
                let outcome = self.machine.go_on(self);
                self.interrupted
                    .set(self.interrupted.get() || outcome == Err(Bad::Leaving));
            }
            Some(Later::CloseBelow) => self.end_below(),
            None => {}
        }
    }

    fn end_below(&self) {
        if self.below.get() == Below::Open {
            self.below.set(Below::Ending);
        }
    }

    fn lose(&self) {
        if self.below.get() == Below::Lost {
            return;
        }
        self.below.set(Below::Lost);
        let shaking = self.machine.phase() == Phase::Handshake;
        let told = self.machine.lost(self);
        assert_eq!(told, self.connected.get() && !shaking, "who knew is told");
        assert!(!self.timer.get(), "a timer is left");
        assert_eq!(self.machine.phase(), Phase::Plain);
        self.lost.set(told);
    }

    /// The program calls a method of the transport.
    fn program_acts(&self) -> Result<(), Bad> {
        let what = self.choose(5);
        self.note(16 + what as u64);
        match what {
            0 => self.machine.close(self),
            1 => {
                self.machine.abort();
                self.end_below();
                Ok(())
            }
            2 => {
                self.machine.pause();
                Ok(())
            }
            3 => self.machine.resume(self),
            _ => self.machine.written(self),
        }
    }

    /// The program's code runs: it may call the transport, and fail.
    fn callback(&self, what: u64) -> Result<(), Bad> {
        self.note(what);
        if self.depth.get() < DEEPEST && self.one_in(2) {
            self.depth.set(self.depth.get() + 1);
            let outcome = self.program_acts();
            self.depth.set(self.depth.get() - 1);
            outcome?;
        }
        match self.choose(16) {
            14 => Err(Bad::Usual),
            15 if self.one_in(4) => Err(Bad::Leaving),
            _ => Ok(()),
        }
    }

    /// Runs an operation of the engine.
    fn engine<R>(&self, operation: impl FnOnce() -> R) -> R {
        assert!(!self.busy.replace(true), "the engine is busy");
        let result = operation();
        self.busy.set(false);
        result
    }

    fn step(&self) -> Result<Step, Failure<Bad>> {
        match self.choose(6) {
            0 => Err(Failure::Protocol(Bad::Usual)),
            1 | 2 => Ok(Step::Blocked),
            _ => Ok(Step::Done),
        }
    }

    /// The program closes what it has not closed, time passes, and the peer goes: then it is over.
    fn finish(&self) {
        for _ in 0..8 {
            let _ = self.machine.close(self);
            while !self.later.borrow().is_empty() {
                self.go_on();
            }
            self.peer_ends();
            self.fire();
            if self.below.get() == Below::Ending {
                self.lose();
            }
        }
        let over = self.below.get() == Below::Lost;
        assert!(
            over || self.interrupted.get(),
            "a closed connection stays: {:?}",
            self.machine
        );
    }
}

impl Host for World<'_, '_> {
    type Error = Bad;

    fn handshake(&self) -> Result<Step, Failure<Bad>> {
        assert_eq!(self.machine.phase(), Phase::Handshake);
        self.engine(|| {
            // The program's code for names and keys.
            self.callback(32).map_err(Failure::Other)?;
            self.step()
        })
    }

    fn unwrap(&self) -> Result<Step, Failure<Bad>> {
        assert_eq!(self.machine.phase(), Phase::Closing);
        self.engine(|| self.step())
    }

    fn deliver(&self) -> Result<Delivered, Bad> {
        while !self.machine.is_paused() && self.machine.is_flowing() {
            if self.said_goodbye.get() {
                return Ok(Delivered::Closed);
            }
            let what = self.engine(|| self.choose(6));
            self.said_goodbye.set(what == 1 || what == 4);
            self.waiting.set(what == 2);
            if what == 0 {
                return Err(Bad::Usual);
            }
            if what < 4 {
                assert!(self.connected.get() && !self.ended.get() && !self.lost.get());
                self.callback(33)?;
            }
            match what {
                1 | 4 => return Ok(Delivered::Closed),
                2 => {}
                _ => return Ok(Delivered::All),
            }
        }
        Ok(Delivered::Held)
    }

    fn encrypt(&self) -> Result<(), Bad> {
        assert!(self.machine.is_flowing());
        match self.engine(|| self.choose(8)) {
            7 => Err(Bad::Usual),
            _ => Ok(()),
        }
    }

    fn send(&self) -> Result<(), Bad> {
        // The program is told to pause writing, or to go on.
        if !self.connected.get() || self.lost.get() || !self.one_in(3) {
            return Ok(());
        }
        match self.callback(34) {
            // The exception handler is told.
            Err(Bad::Usual) => Ok(()),
            outcome => outcome,
        }
    }

    fn control_below(&self) -> Result<(), Bad> {
        Ok(())
    }

    fn established(&self) -> Result<(), Bad> {
        assert!(!self.timer.get(), "the handshake is done in time");
        match self.choose(8) {
            7 => Err(Bad::Usual),
            _ => Ok(()),
        }
    }

    fn tell_connected(&self) -> Result<(), Bad> {
        assert!(!self.connected.replace(true), "told twice");
        assert_eq!(
            (self.machine.phase(), self.machine.app()),
            (Phase::Open, App::Connected)
        );
        self.callback(35)
    }

    fn tell_ended(&self) -> Result<(), Bad> {
        assert!(
            self.connected.get(),
            "told of the end of what it does not know"
        );
        assert!(!self.ended.replace(true), "told twice");
        assert!(!self.lost.get(), "told after the end");
        let given_up = self.machine.is_closed() || self.below.get() != Below::Open;
        assert!(given_up || !self.waiting.get(), "what has come is dropped");
        self.callback(36)
    }

    fn tell_waiter(&self) -> Result<(), Bad> {
        Ok(())
    }

    fn handshake_cut_off(&self) -> Bad {
        Bad::Usual
    }

    fn fatal(&self, error: Bad, fault: Fault) -> Result<(), Bad> {
        self.note(37 + fault as u64);
        if error == Bad::Leaving {
            return Err(error);
        }
        self.end_below();
        Ok(())
    }

    fn is_reportable(&self, error: &Bad, _fault: Fault) -> bool {
        *error == Bad::Usual
    }

    fn start_timer(&self, _limit: Limit) -> Result<(), Bad> {
        assert_ne!(self.below.get(), Below::Lost, "a timer of what is gone");
        self.timer.set(true);
        Ok(())
    }

    fn stop_timer(&self) {
        self.timer.set(false);
    }

    fn has_timer(&self) -> bool {
        self.timer.get()
    }

    fn later(&self, what: Later) -> Result<(), Bad> {
        self.later.borrow_mut().push_back(what);
        Ok(())
    }

    fn abort_below(&self) -> Result<(), Bad> {
        self.end_below();
        Ok(())
    }
}
