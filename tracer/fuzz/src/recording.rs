//! Reads arbitrary bytes as a recording. Reading ends or returns an error, the frames can be
//! written again, and a tracker accepts all of them.

use synfin::{
    tcp::group_by::By,
    trace::{
        decode::decode,
        recording::{Frame, MAGIC, Reader, RecordingError},
    },
    tracker::{Limits, Tracker},
};
use synfin_testkit::recorded;

use super::decode::checksum;

/// Reads `bytes` as a file, then again with correct checksums, because few inputs have them.
pub fn run(bytes: &[u8]) {
    read(bytes);
    read(&with_checksums(bytes));
}

/// The same file with the correct checksum of each frame.
pub(crate) fn with_checksums(file: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let mut start = MAGIC.len();
    while let Some(head) = file.get(start..).and_then(|rest| rest.first_chunk::<9>()) {
        let &[kind, a, b, c, d, ..] = head;
        let payload = start + 9;
        let end = payload.saturating_add(u32::from_le_bytes([a, b, c, d]) as usize);
        let Some(sum) = file.get(payload..end).map(|payload| checksum(kind, payload)) else {
            break;
        };
        file[start + 5..payload].copy_from_slice(&sum.to_le_bytes());
        start = end;
    }
    file
}

fn read(file: &[u8]) {
    let mut reader = match Reader::new(file) {
        Ok(reader) => reader,
        Err(error) => {
            let expected =
                matches!(error, RecordingError::NotARecording | RecordingError::Version(_));
            assert!(expected, "{error}");
            return;
        }
    };
    let mut frames = Vec::new();
    for frame in reader.by_ref() {
        match frame {
            Ok(frame) => frames.push(frame),
            Err(RecordingError::Truncated(offset) | RecordingError::Damaged { offset, .. }) => {
                assert!((MAGIC.len() as u64..file.len() as u64).contains(&offset), "{offset}");
                break;
            }
            Err(error) => panic!("reading from memory failed: {error}"),
        }
    }
    assert!(reader.next().is_none(), "a frame follows the end");
    replay(&frames);
    assert_eq!(written_and_read(&frames), frames, "writing and reading changes the frames");
}

fn replay(frames: &[Frame]) {
    let mut tracker = Tracker::new(Limits::default(), 0);
    for frame in frames {
        if let Frame::Session(session) = frame {
            tracker = Tracker::new(Limits::default(), session.clock.monotonic_ns)
                .with_coverage(session.coverage)
                .with_filters(vec![session.filter.clone()]);
        }
        decode(frame, |input| tracker.apply(&input));
    }
    tracker.take_snapshot().rows(By::default());
}

fn written_and_read(frames: &[Frame]) -> Vec<Frame> {
    let file = recorded(frames);
    let read = Reader::new(&file[..]).and_then(Iterator::collect);
    read.expect("a written recording can be read")
}
