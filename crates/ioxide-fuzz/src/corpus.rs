//! Inputs that have led somewhere new, and variations of them.

use std::collections::HashSet;

/// A generator of random numbers (xorshift64*): the same seed gives the same inputs.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 32) as usize) % limit.max(1)
    }
}

/// What a run has come by: a target notes whatever distinguishes one from another.
#[derive(Debug, Default)]
pub struct Trace {
    noted: HashSet<u64>,
    last: u64,
}

impl Trace {
    /// Notes something, and that it came after what was noted before.
    pub fn note(&mut self, what: u64) {
        self.noted.insert(what);
        self.noted.insert(self.last << 32 ^ what ^ 1 << 63);
        self.last = what & 0xFFFF_FFFF;
    }
}

/// The inputs worth varying.
#[derive(Debug, Default)]
pub struct Corpus {
    inputs: Vec<Vec<u8>>,
    seen: HashSet<u64>,
}

impl Corpus {
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Keeps the input if its trace has something that none had before.
    pub fn consider(&mut self, input: Vec<u8>, trace: &Trace) {
        let before = self.seen.len();
        self.seen.extend(&trace.noted);
        if self.seen.len() > before {
            self.inputs.push(input);
        }
    }

    /// A new input: now and then of nothing but noise, mostly a variation.
    pub fn next(&self, random: &mut Random, words: &[&[u8]]) -> Vec<u8> {
        let mut input = match self.inputs.len() {
            0 => Vec::new(),
            _ if random.below(20) == 0 => Vec::new(),
            // Later ones are rarer finds.
            count => self.inputs[count - 1 - random.below(count).min(random.below(count))].clone(),
        };
        if input.is_empty() {
            let len = random.below(80);
            input.extend((0..len).map(|_| random.next() as u8));
        }
        for _ in 0..=random.below(4) {
            self.vary(&mut input, random, words);
        }
        input.truncate(4096);
        input
    }

    fn vary(&self, input: &mut Vec<u8>, random: &mut Random, words: &[&[u8]]) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(8)).min(input.len());
        match random.below(8) {
            0 if at < input.len() => input[at] = random.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 => drop(input.drain(at.min(end)..end)),
            3 => {
                let copied = input[at.min(end)..end].to_vec();
                insert(input, random, &copied);
            }
            4 if !words.is_empty() => {
                let word = words[random.below(words.len())];
                insert(input, random, word);
            }
            5 if !self.inputs.is_empty() => {
                let other = &self.inputs[random.below(self.inputs.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            6 => input.push(random.next() as u8),
            _ => {
                let noise = random.next().to_ne_bytes();
                let len = random.below(noise.len());
                insert(input, random, &noise[..len]);
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, random: &mut Random, bytes: &[u8]) {
    let at = random.below(input.len() + 1);
    input.splice(at..at, bytes.iter().copied());
}
