//! The fuzz targets. A target takes arbitrary bytes and panics if an invariant does not hold.
//! libFuzzer runs it on generated input (`cargo xtask fuzz`), and
//! `tracer/tests/formats/fuzz.rs` on the seeds and on all past findings.

pub mod decode;
pub mod recording;
pub mod render;
mod seeds;
mod trace;
pub mod tracker;

/// A fuzz target.
pub struct Target {
    /// The name of the target, its binary and its directories.
    pub name: &'static str,
    /// Panics if an invariant does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Returns the initial corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target { name: "decode", run: decode::run, seeds: seeds::payloads },
    Target { name: "recording", run: recording::run, seeds: seeds::recordings },
    Target { name: "render", run: render::run, seeds: seeds::recordings },
    Target { name: "tracker", run: tracker::run, seeds: seeds::dice },
];
