//! Texts that are changed by chance: for a minute with `CI` set, else for two seconds, and always the same ones, up to a
//! number that is known to pass, so that a change is told from chance. `DVC_FANOUT_FUZZ_SECONDS` and
//! `DVC_FANOUT_FUZZ_SEED` ask for more and for others. What fails is printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::MAX_BYTES;
use crate::env;

/// The number of texts that are tried unless a seed is given.
const TRIES: u64 = 400_000;

/// What makes parsers think.
const TOKENS: [&str; 32] = [
    "\n", "  ", "- ", ": ", "{", "}", "[", "]", "'", "\"", "|\n", ">\n", "#", "&a ", "*a", "<<: ", "!!", "%", "@",
    "\\", "\t", "\r\n", "\u{feff}", "\u{2028}", "${", "${item}", "...\n", "---\n", "null", "../", "/etc/x", "\0",
];

/// Mutates texts for as long as it is given, and calls the target with each.
pub(crate) fn fuzz(name: &str, seeds: &[String], target: &dyn Fn(&str)) {
    let number = |variable: &str| env::read_text(variable).and_then(|text| text.parse::<u64>().ok());
    let in_ci = env::read(env::CI).is_some();
    let seconds = number("DVC_FANOUT_FUZZ_SECONDS").unwrap_or(if in_ci { 60 } else { 2 });
    let given = number("DVC_FANOUT_FUZZ_SEED");
    let (seed, most) = given.map_or((1, TRIES), |seed| (seed, u64::MAX));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut random = Random(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tries = 0_u64;
    while tries < most && Instant::now() < end {
        let text = random.mutated(seeds);
        tries += 1;
        let is_fine = catch_unwind(AssertUnwindSafe(|| target(&text))).is_ok();
        assert!(is_fine, "{name}: seed {seed}, try {tries}, on {text:?}");
    }
    assert!(tries > 10, "{name}: {tries} tries");
}

struct Random(TestRng);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next_u64()).unwrap_or(usize::MAX) % limit.max(1)
    }

    /// A place in a text where a character begins.
    fn place(&mut self, text: &str) -> usize {
        let place = self.below(text.len() + 1);
        (0..=place).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    }

    fn range(&mut self, text: &str) -> std::ops::Range<usize> {
        let (a, b) = (self.place(text), self.place(text));
        a.min(b)..a.max(b)
    }

    fn mutated(&mut self, seeds: &[String]) -> String {
        let mut text = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            match self.below(6) {
                0 => {
                    let at = self.place(&text);
                    text.insert_str(at, TOKENS[self.below(TOKENS.len())]);
                }
                1 => {
                    let range = self.range(&text);
                    text.replace_range(range, "");
                }
                2 => {
                    let (range, at) = (self.range(&text), self.place(&text));
                    let again = text[range].to_owned();
                    text.insert_str(at, &again);
                }
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    let (range, at) = (self.range(other), self.place(&text));
                    text.insert_str(at, &other[range]);
                }
                4 => {
                    let range = self.range(&text);
                    text.replace_range(range, TOKENS[self.below(TOKENS.len())]);
                }
                _ => text.truncate(self.place(&text)),
            }
            if text.len() > MAX_BYTES {
                text.truncate((0..=MAX_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
            }
        }
        text
    }
}
