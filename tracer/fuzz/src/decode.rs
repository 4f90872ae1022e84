//! Decodes arbitrary bytes as the payload of each kind of frame. Decoding gives input or an error,
//! and anonymized bytes give input of the same kinds.

use std::mem::{Discriminant, discriminant};

use synfin::trace::{
    anonymize::{Anonymizer, Key},
    decode::decode,
    event::Input,
    recording::{Frame, MAGIC, Reader},
};

/// More kinds than exist, so that new ones are fuzzed without being named here.
const KINDS: u8 = 32;

/// Decodes `bytes` as a payload.
pub fn run(bytes: &[u8]) {
    let mut anonymizer = Anonymizer::new(Key::from_secret(b"any"));
    for kind in 0..KINDS {
        for frame in Reader::new(&of_one_frame(kind, bytes)[..]).expect("has our magic").flatten() {
            let kinds = kinds_in(&frame);
            assert_eq!(kinds_in(&anonymizer.frame(&frame)), kinds, "anonymizing changes the kinds");
            let inputs = kinds.len();
            assert!(inputs <= bytes.len().max(1), "{inputs} inputs out of {} bytes", bytes.len());
            if let Frame::Events(_) | Frame::Scanned(_) = frame {
                assert_eq!(inputs == 0, bytes.is_empty(), "no input from these bytes");
            }
        }
    }
}

fn kinds_in(frame: &Frame) -> Vec<Discriminant<Input>> {
    let mut kinds = Vec::new();
    decode(frame, |input| kinds.push(discriminant(&input)));
    kinds
}

/// A recording with one frame and its correct checksum.
fn of_one_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("libFuzzer's inputs are small").to_le_bytes();
    let checksum = checksum(kind, payload).to_le_bytes();
    [&MAGIC[..], &[kind], &len, &checksum, payload].concat()
}

/// The checksum of a frame.
pub(crate) fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}
