//! Runs targets with inputs that nobody thought of, for a while or until one fails.
//!
//! ```text
//! cargo run --release -p ioxide-fuzz -- [TARGET...] [--seconds N] [--seed N]
//! cargo run -p ioxide-fuzz -- TARGET --input HEX
//! ```
//!
//! Each target gets an equal share of the seconds (60 unless said otherwise). It works on a stable
//! compiler: what leads somewhere new is not told by instrumented code, but noted by the target. An
//! input that fails is made smaller, and printed so that `--input` runs it again.

mod corpus;
mod input;
mod targets;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use corpus::{Corpus, Random, Trace};
use input::Input;
use targets::{Target, TARGETS};

struct Options {
    targets: Vec<&'static Target>,
    seconds: u64,
    seed: u64,
    input: Option<Vec<u8>>,
}

fn main() -> ExitCode {
    let options = match parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if let Some(input) = &options.input {
        for target in &options.targets {
            (target.run)(&mut Input::new(input), &mut Trace::default());
        }
        return ExitCode::SUCCESS;
    }
    let share = Duration::from_secs(options.seconds) / options.targets.len() as u32;
    let failed = options
        .targets
        .iter()
        .filter(|target| !fuzz(target, share, options.seed))
        .count();
    ExitCode::from(u8::from(failed > 0))
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    let usage =
        || format!("a target is one of {names:?}; options: --seconds N --seed N --input HEX");
    let mut options = Options {
        targets: Vec::new(),
        seconds: 60,
        seed: u64::from(std::process::id()),
        input: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(usage);
        match argument.as_str() {
            "--seconds" => options.seconds = value()?.parse().map_err(|_| usage())?,
            "--seed" => options.seed = value()?.parse().map_err(|_| usage())?,
            "--input" => options.input = Some(from_hex(&value()?).ok_or_else(usage)?),
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => options.targets.push(target),
                None => return Err(usage()),
            },
        }
    }
    if options.targets.is_empty() {
        options.targets.extend(TARGETS);
    }
    Ok(options)
}

/// Whether nothing failed in that time.
fn fuzz(target: &Target, share: Duration, seed: u64) -> bool {
    let (mut random, mut corpus) = (Random::new(seed), Corpus::default());
    let (begun, mut runs) = (Instant::now(), 0_u64);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let mut failed = None;
    while failed.is_none() && (!runs.is_multiple_of(256) || begun.elapsed() < share) {
        let input = corpus.next(&mut random, target.words);
        let mut trace = Trace::default();
        if fails(target, &input, &mut trace) {
            failed = Some(shrink(target, input));
        } else {
            corpus.consider(input, &trace);
        }
        runs += 1;
    }
    panic::set_hook(hook);
    println!(
        "{:8} {runs} inputs in {:.0} s, {} kept, {} things seen; seed {seed}",
        target.name,
        begun.elapsed().as_secs_f64(),
        corpus.len(),
        corpus.seen(),
    );
    let Some(input) = failed else { return true };
    println!("{} fails with --input {}", target.name, to_hex(&input));
    // Once more, with its message.
    let _ = panic::catch_unwind(|| (target.run)(&mut Input::new(&input), &mut Trace::default()));
    false
}

fn fails(target: &Target, input: &[u8], trace: &mut Trace) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| {
        (target.run)(&mut Input::new(input), trace);
    }))
    .is_err()
}

/// A smaller input that fails as well: without parts of it, and with zeros in their place.
fn shrink(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let still = |candidate: &[u8]| fails(target, candidate, &mut Trace::default());
    let mut size = input.len();
    while size > 0 {
        let mut at = 0;
        while at < input.len() {
            let end = (at + size).min(input.len());
            let mut without = input.clone();
            without.drain(at..end);
            let mut zeroed = input.clone();
            zeroed[at..end].fill(0);
            if still(&without) {
                input = without;
            } else if zeroed != input && still(&zeroed) {
                input = zeroed;
                at = end;
            } else {
                at = end;
            }
        }
        size /= 2;
    }
    input
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_passes_some_inputs() {
        for target in TARGETS {
            let (mut random, mut corpus) = (Random::new(1), Corpus::default());
            for _ in 0..2000 {
                let input = corpus.next(&mut random, target.words);
                let mut trace = Trace::default();
                (target.run)(&mut Input::new(&input), &mut trace);
                corpus.consider(input, &trace);
            }
            assert!(corpus.len() > 20, "{} finds nothing new", target.name);
        }
    }

    #[test]
    fn a_failure_is_found_and_made_small() {
        const FAILS: Target = Target {
            name: "fails",
            words: &[b"bad"],
            run: |input, _| assert!(!input.rest().windows(3).any(|window| window == b"bad")),
        };
        assert!(!fuzz(&FAILS, Duration::from_secs(20), 1));
        let small = shrink(&FAILS, b"some bad input".to_vec());
        assert_eq!(small, b"bad");
        assert_eq!(from_hex(&to_hex(&small)), Some(small));
    }
}
