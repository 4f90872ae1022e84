//! The initial corpus: deterministic, and in the recording format of this version.

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use synfin::{tcp::coverage::OptionalHook, trace::recording::Frame};
use synfin_testkit::recorded;

use super::trace::Trace;

const SEEDS: u64 = 8;
/// Random bytes per trace, enough for about sixty records.
const DICE: usize = 1 << 10;
const PAYLOADS_OF_A_KIND: usize = 8;
/// Kind, length and checksum of a frame, in bytes.
const HEAD: usize = 9;

/// Random bytes.
pub(crate) fn dice() -> Vec<Vec<u8>> {
    (1..=SEEDS).map(throw).collect()
}

/// Recordings of the traces that these bytes generate.
pub(crate) fn recordings() -> Vec<Vec<u8>> {
    dice().iter().map(|dice| recorded(&frames(dice))).collect()
}

/// Payloads of some frames of each kind in these traces.
pub(crate) fn payloads() -> Vec<Vec<u8>> {
    let mut payloads: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    let nothing = recorded(&[]).len();
    for frame in dice().iter().flat_map(|dice| frames(dice)) {
        let frame = &recorded(&[frame])[nothing..];
        let of_its_kind = payloads.entry(frame[0]).or_default();
        if of_its_kind.len() < PAYLOADS_OF_A_KIND {
            of_its_kind.push(frame[HEAD..].to_vec());
        }
    }
    payloads.into_values().flatten().collect()
}

fn frames(dice: &[u8]) -> Vec<Frame> {
    let trace = Trace::new(Unstructured::new(dice));
    // In half of them, the kernel has all optional features.
    let shows_all = dice.first().is_some_and(|first| first & 1 == 1);
    let coverage = if shows_all { &OptionalHook::ALL[..] } else { &[] };
    let session = Frame::Session(Trace::session(coverage).into());
    [session].into_iter().chain(trace).collect()
}

/// A linear congruential generator with Knuth's constants: the same bytes on every machine.
fn throw(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut byte = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..DICE).map(|_| byte()).collect()
}
