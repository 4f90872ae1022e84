//! What is fuzzed. A target takes any bytes and panics if something does not hold for them:
//! libFuzzer runs it over what it makes up (`cargo xtask fuzz`), and
//! `tracer/tests/formats/fuzz.rs` over the seeds and over all that was ever found.

pub mod decode;
pub mod recording;
pub mod render;
mod seeds;
mod trace;
pub mod tracker;

/// A function for libFuzzer.
pub struct Target {
    /// Its name, and that of its binary and folders.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
    /// What to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target { name: "decode", run: decode::run, seeds: seeds::payloads },
    Target { name: "recording", run: recording::run, seeds: seeds::recordings },
    Target { name: "render", run: render::run, seeds: seeds::recordings },
    Target { name: "tracker", run: tracker::run, seeds: seeds::dice },
];
