//! The TLS machine with an engine of its own kind (records are a length and bytes, nothing is secret) and a program
//! that does anything in any of its callbacks.

#![allow(clippy::unwrap_used)]

use ioxide_core::tls::engine::{fill, End, Engine, Failure, Read, Step, Written};
use ioxide_core::tls::machine::{App, Delivered, Fault, Host, Later, Limit, Machine, Phase};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::MaybeUninit;

const GREETING: u8 = 0xf0;
const GOODBYE: u8 = 0xf1;
const BROKEN: u8 = 0xf2;

/// Decrypts by taking lengths away.
#[derive(Default)]
struct Plain {
    input: RefCell<VecDeque<u8>>,
    /// What is left of the record that was begun.
    record: Cell<usize>,
}

impl Engine for Plain {
    type Error = &'static str;

    fn handshake(&self) -> Result<Step, Failure<&'static str>> {
        match self.input.borrow_mut().pop_front() {
            None => Ok(Step::Blocked),
            Some(GREETING) => Ok(Step::Done),
            Some(_) => Err(Failure::Protocol("no greeting")),
        }
    }

    fn read(&self, space: &mut [MaybeUninit<u8>]) -> Result<Read, &'static str> {
        let mut input = self.input.borrow_mut();
        while self.record.get() == 0 {
            match input.pop_front() {
                None => return Ok(Read::Blocked),
                Some(GOODBYE) => {
                    input.push_front(GOODBYE);
                    return Ok(Read::Closed);
                }
                Some(BROKEN) => {
                    input.push_front(BROKEN);
                    return Err("broken record");
                }
                Some(length) => self.record.set(length.into()),
            }
        }
        let count = self.record.get().min(space.len()).min(input.len());
        if count == 0 {
            return Ok(Read::Blocked);
        }
        for (slot, byte) in space.iter_mut().zip(input.drain(..count)) {
            slot.write(byte);
        }
        self.record.set(self.record.get() - count);
        Ok(Read::Bytes(count))
    }

    fn write(&self, data: &[u8]) -> Result<Written, &'static str> {
        Ok(Written::Bytes(data.len()))
    }

    fn unwrap(&self) -> Result<Step, Failure<&'static str>> {
        match self.input.borrow().front() {
            None => Ok(Step::Blocked),
            Some(&GOODBYE) => Ok(Step::Done),
            Some(_) => Err(Failure::Protocol("data after the goodbye")),
        }
    }

    fn is_drained(&self) -> bool {
        self.input.borrow().is_empty()
    }
}

/// The bytes in a slice of initialised memory.
fn taken(space: &[MaybeUninit<u8>]) -> Vec<u8> {
    // The workspace denies unsafe code where it can; what `fill` counts was written by the engine above.
    space
        .iter()
        .map(|byte| {
            #[allow(unsafe_code, reason = "see above")]
            // SAFETY: the engine has written it.
            unsafe {
                byte.assume_init()
            }
        })
        .collect()
}

/// What a program or a network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Close,
    Abort,
    Pause,
    Resume,
    Write,
    /// Write what waits for the end of the turn.
    Hold,
    Fail,
    /// What must leave the loop.
    Leave,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Close),
        Just(Act::Abort),
        Just(Act::Pause),
        Just(Act::Resume),
        Just(Act::Write),
        Just(Act::Hold),
        Just(Act::Fail),
        Just(Act::Leave),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Bytes(Vec<u8>),
    Eof,
    Lost,
    Timer,
    Later,
    Program(Act),
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = prop_oneof![
        6 => prop::collection::vec(prop_oneof![Just(3u8), 1..9u8], 0..12),
        2 => Just(vec![GREETING]),
        1 => Just(vec![GOODBYE]),
        1 => Just(vec![BROKEN]),
    ];
    prop_oneof![
        8 => bytes.prop_map(Event::Bytes),
        1 => Just(Event::Eof),
        1 => Just(Event::Lost),
        1 => Just(Event::Timer),
        4 => Just(Event::Later),
        4 => act().prop_map(Event::Program),
    ]
}

/// A program that follows a script, and everything around it.
struct World {
    machine: Machine,
    engine: Plain,
    /// What the program does in its next callbacks.
    script: RefCell<VecDeque<Option<Act>>>,
    log: RefCell<Vec<&'static str>>,
    later: RefCell<VecDeque<Later>>,
    timer: Cell<bool>,
    /// The connection below was ended, or told to end.
    below_ended: Cell<bool>,
    in_engine: Cell<bool>,
    /// Something was written and not encrypted yet.
    held: Cell<bool>,
}

impl World {
    fn new(script: Vec<Option<Act>>, connected: bool) -> World {
        World {
            machine: Machine::new(connected),
            engine: Plain::default(),
            script: RefCell::new(script.into()),
            log: RefCell::default(),
            later: RefCell::default(),
            timer: Cell::new(false),
            below_ended: Cell::new(false),
            in_engine: Cell::new(false),
            held: Cell::new(false),
        }
    }

    fn note(&self, what: &'static str) {
        self.log.borrow_mut().push(what);
    }

    /// A callback of the program: notes it, and does what the script says.
    fn callback(&self, name: &'static str) -> Result<(), &'static str> {
        assert!(
            !self.in_engine.get(),
            "{name} in the middle of an operation"
        );
        self.note(name);
        let next = self.script.borrow_mut().pop_front().flatten();
        next.map_or(Ok(()), |act| self.act(act))
    }

    fn act(&self, act: Act) -> Result<(), &'static str> {
        match act {
            Act::Close => self.machine.close(self),
            Act::Abort => {
                self.machine.abort();
                self.below_ended.set(true);
                Ok(())
            }
            Act::Pause => {
                self.machine.pause();
                Ok(())
            }
            Act::Resume => self.machine.resume(self),
            Act::Write => self.machine.written(self),
            Act::Hold => {
                if self.machine.phase() == Phase::Open {
                    self.held.set(true);
                }
                Ok(())
            }
            Act::Fail => Err("failed"),
            Act::Leave => Err("leave"),
        }
    }

    fn happen(&self, event: &Event) {
        let result = match event {
            Event::Bytes(bytes) => {
                self.engine.input.borrow_mut().extend(bytes);
                self.machine.received(self)
            }
            Event::Eof => self.machine.ended(self).map(drop),
            Event::Lost => {
                if self.machine.lost(self) {
                    self.note("lost");
                }
                Ok(())
            }
            Event::Timer => {
                if self.timer.replace(false) && self.machine.overdue().is_some() {
                    self.below_ended.set(true);
                }
                Ok(())
            }
            Event::Later => {
                let next = self.later.borrow_mut().pop_front();
                match next {
                    Some(Later::GoOn) => self.machine.go_on(self),
                    Some(Later::CloseBelow) => {
                        self.below_ended.set(true);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            Event::Program(act) => match act {
                // A program does not fail on its own.
                Act::Fail | Act::Leave => Ok(()),
                act => self.act(*act),
            },
        };
        if let Err(error) = result {
            // Only what is not reportable, and what goes wrong outside of reading and writing, comes out; the
            // transport below ends by it.
            self.below_ended.set(true);
            assert!(["leave", "failed"].contains(&error), "{error}");
        }
    }

    fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        assert!(!self.in_engine.replace(true), "one operation at a time");
        let result = f();
        self.in_engine.set(false);
        result
    }
}

impl Host for World {
    type Error = &'static str;

    fn handshake(&self) -> Result<Step, Failure<&'static str>> {
        assert_eq!(self.machine.phase(), Phase::Handshake);
        self.within(|| self.engine.handshake())
    }

    fn unwrap(&self) -> Result<Step, Failure<&'static str>> {
        assert_eq!(self.machine.phase(), Phase::Closing);
        assert!(!self.held.get(), "goodbye before the last words");
        self.within(|| self.engine.unwrap())
    }

    fn deliver(&self) -> Result<Delivered, &'static str> {
        loop {
            if self.machine.is_paused() || !self.machine.is_flowing() {
                return Ok(Delivered::Held);
            }
            let mut space = [MaybeUninit::uninit(); 5];
            let filled = self.within(|| fill(&self.engine, &mut space));
            if filled.count > 0 {
                assert_eq!(self.machine.app(), App::Connected, "bytes to nobody");
                self.callback("data")?;
            }
            match filled.end {
                End::Full => {}
                End::Drained => return Ok(Delivered::All),
                End::Closed => return Ok(Delivered::Closed),
                End::Failed(error) => return Err(error),
            }
        }
    }

    fn encrypt(&self) -> Result<(), &'static str> {
        assert!(self.machine.is_flowing());
        self.held.set(false);
        Ok(())
    }

    fn send(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn control_below(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn established(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn tell_connected(&self) -> Result<(), &'static str> {
        self.callback("made")
    }

    fn tell_ended(&self) -> Result<(), &'static str> {
        self.callback("eof")
    }

    fn tell_waiter(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn handshake_cut_off(&self) -> &'static str {
        "cut off"
    }

    fn fatal(&self, error: &'static str, _: Fault) -> Result<(), &'static str> {
        assert_ne!(error, "leave", "that must leave the loop");
        self.below_ended.set(true);
        Ok(())
    }

    fn is_reportable(&self, error: &&'static str, _: Fault) -> bool {
        *error != "leave"
    }

    fn start_timer(&self, _: Limit) -> Result<(), &'static str> {
        self.timer.set(true);
        Ok(())
    }

    fn stop_timer(&self) {
        self.timer.set(false);
    }

    fn has_timer(&self) -> bool {
        self.timer.get()
    }

    fn later(&self, what: Later) -> Result<(), &'static str> {
        self.later.borrow_mut().push_back(what);
        Ok(())
    }

    fn abort_below(&self) -> Result<(), &'static str> {
        self.below_ended.set(true);
        Ok(())
    }
}

/// `made → data* → eof? → lost?`, each of the others once.
fn is_in_order(log: &[&str], connected: bool) -> bool {
    let rest = if connected {
        log
    } else {
        match log {
            [] => return true,
            ["made", rest @ ..] => rest,
            _ => return false,
        }
    };
    let rest: Vec<&str> = rest
        .iter()
        .copied()
        .skip_while(|it| *it == "data")
        .collect();
    matches!(rest[..], [] | ["eof"] | ["lost"] | ["eof", "lost"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens in whatever order, the program's callbacks come in theirs.
    #[test]
    fn callbacks_keep_their_order(
        events in prop::collection::vec(event(), 0..40),
        script in prop::collection::vec(prop::option::of(act()), 0..12),
        connected in any::<bool>(),
    ) {
        let world = World::new(script, connected);
        world.machine.begin(&world).unwrap();
        let mut events: Vec<Event> = events;
        // A greeting first, mostly: without one there is little to see.
        if !events.len().is_multiple_of(4) {
            events.insert(0, Event::Bytes(vec![GREETING]));
        }
        for event in &events {
            world.happen(event);
            if matches!(event, Event::Lost) {
                break;
            }
        }
        prop_assert!(is_in_order(&world.log.borrow(), connected), "{:?}", world.log.borrow());
    }

    /// A connection that the program has closed ends, or waits with a timer for the other end.
    #[test]
    fn who_closes_is_done_or_has_a_limit(
        events in prop::collection::vec(event(), 0..20),
        script in prop::collection::vec(prop::option::of(act()), 0..6),
    ) {
        let world = World::new(script, false);
        world.machine.begin(&world).unwrap();
        world.happen(&Event::Bytes(vec![GREETING]));
        for event in events.iter().filter(|it| !matches!(it, Event::Lost | Event::Timer)) {
            world.happen(event);
        }
        world.happen(&Event::Program(Act::Close));
        while !world.later.borrow().is_empty() {
            world.happen(&Event::Later);
        }
        prop_assert!(world.machine.is_closed());
        prop_assert!(world.below_ended.get() || world.timer.get());
    }

    /// Records are put together whatever the pieces in which they come and the room there is for them.
    #[test]
    fn every_byte_is_decrypted(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..20),
        cuts in prop::collection::vec(1..50usize, 1..20),
        room in 1..300usize,
    ) {
        let sent: Vec<u8> = records.concat();
        let mut wire: Vec<u8> = Vec::new();
        for record in &records {
            wire.push(record.len() as u8);
            wire.extend(record);
        }
        let engine = Plain::default();
        let mut got = Vec::new();
        let mut cuts = cuts.iter().cycle();
        let mut wire = &wire[..];
        while !wire.is_empty() {
            let count = (*cuts.next().unwrap()).min(wire.len());
            engine.input.borrow_mut().extend(&wire[..count]);
            wire = &wire[count..];
            loop {
                let mut space = vec![MaybeUninit::uninit(); room];
                let filled = fill(&engine, &mut space);
                got.extend(taken(&space[..filled.count]));
                match filled.end {
                    End::Full => {}
                    End::Drained => break,
                    End::Closed | End::Failed(_) => panic!("neither was sent"),
                }
            }
        }
        prop_assert_eq!(got, sent);
    }
}

fn open() -> World {
    let world = World::new(Vec::new(), false);
    world.machine.begin(&world).unwrap();
    world.happen(&Event::Bytes(vec![GREETING]));
    world
}

#[test]
fn good_bytes_before_a_broken_record_are_delivered() {
    let world = open();
    world.happen(&Event::Bytes(vec![2, 7, 7, BROKEN]));
    assert_eq!(*world.log.borrow(), ["made", "data"]);
    assert!(world.below_ended.get());
}

#[test]
fn what_has_come_before_the_end_waits_for_a_program_that_has_paused() {
    let world = open();
    world.machine.pause();
    world.happen(&Event::Bytes(vec![2, 7, 7]));
    assert_eq!(world.machine.ended(&world), Ok(true));
    assert_eq!(*world.log.borrow(), ["made"]);
    world.happen(&Event::Program(Act::Resume));
    world.happen(&Event::Later);
    assert_eq!(*world.log.borrow(), ["made", "data", "eof"]);
}

#[test]
fn what_was_written_is_encrypted_before_the_end_even_if_the_program_has_paused() {
    let ends: [fn(&World); 2] = [
        |world| world.machine.close(world).unwrap(),
        |world| assert!(world.machine.ended(world).unwrap()),
    ];
    for end in ends {
        let world = open();
        world.machine.pause();
        world.happen(&Event::Program(Act::Hold));
        assert!(world.held.get());
        end(&world);
        assert!(!world.held.get());
    }
}

#[test]
fn a_program_that_never_knew_is_not_told_of_the_loss() {
    let world = World::new(Vec::new(), false);
    world.machine.begin(&world).unwrap();
    world.happen(&Event::Lost);
    assert!(world.log.borrow().is_empty());
}

#[test]
fn a_handshake_has_a_limit_until_it_is_done() {
    let world = World::new(Vec::new(), false);
    world.machine.begin(&world).unwrap();
    assert!(world.timer.get());
    assert_eq!(world.machine.overdue(), Some(Limit::Handshake));
    world.happen(&Event::Bytes(vec![GREETING]));
    assert!(!world.timer.get());
    assert_eq!(world.machine.overdue(), None);
}
