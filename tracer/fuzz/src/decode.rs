//! Any bytes as the payload of each kind of frame: they give input, or a clear error; and the same
//! input but for who it was, if they are anonymized.

use std::mem::{Discriminant, discriminant};

use synfin::trace::{
    anonymize::{Anonymizer, Key},
    decode::decode,
    event::Input,
    recording::{Frame, MAGIC, Reader},
};

/// More kinds than there are, so that new ones are tried without being named here.
const KINDS: u8 = 32;

/// The payload is `bytes`.
pub fn run(bytes: &[u8]) {
    let mut anonymizer = Anonymizer::new(Key::from_secret(b"any"));
    for kind in 0..KINDS {
        for frame in Reader::new(&of_one_frame(kind, bytes)[..]).expect("has our magic").flatten() {
            let kinds = kinds_in(&frame);
            assert_eq!(kinds_in(&anonymizer.frame(&frame)), kinds, "anonymized, it is another");
            let inputs = kinds.len();
            assert!(inputs <= bytes.len().max(1), "{inputs} inputs out of {} bytes", bytes.len());
            if let Frame::Events(_) | Frame::Scanned(_) = frame {
                assert_eq!(inputs == 0, bytes.is_empty(), "bytes vanish");
            }
        }
    }
}

fn kinds_in(frame: &Frame) -> Vec<Discriminant<Input>> {
    let mut kinds = Vec::new();
    decode(frame, |input| kinds.push(discriminant(&input)));
    kinds
}

/// A recording whose checksum is right.
fn of_one_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("libFuzzer's inputs are small").to_le_bytes();
    let checksum = checksum(kind, payload).to_le_bytes();
    [&MAGIC[..], &[kind], &len, &checksum, payload].concat()
}

/// What a frame must carry.
pub(crate) fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}
