//! The reports of a fake kernel as the frames of a recording.

use std::{fs, path::Path};

use synfin::{
    tcp::coverage::Coverage,
    trace::{
        accept_queue::AcceptQueue,
        event::Input,
        recording::{Frame, Recorder},
        session::Session,
        time::{ClockAnchor, Nanos},
    },
};

use crate::{FakeKernel, HOST_NETNS, MILLISECOND, Receiver, encode};

/// The frames of a recording. A batch collects records until the next tick or scan.
#[derive(Default)]
pub struct Frames {
    /// The complete frames, the session first.
    pub frames: Vec<Frame>,
    records: Vec<Input>,
    scanned: Vec<Input>,
}

impl Receiver for Frames {
    fn receive(&mut self, input: Input) {
        match input {
            Input::ScannedSocket(_) | Input::ScannedTimeWait(_) => self.scanned.push(input),
            Input::ScanBegin(begin) => self.end_batch_with(Frame::ScanBegin(begin)),
            Input::ScanEnd(end) => {
                let scanned = encode::scan(&std::mem::take(&mut self.scanned));
                self.end_batch_with(Frame::Scanned(scanned.into()));
                self.frames.push(Frame::ScanEnd(end));
            }
            Input::KernelCounters(read) => self.end_batch_with(Frame::Counters(read)),
            Input::Tick(tick) => self.end_batch_with(Frame::Tick(tick)),
            record => self.records.push(record),
        }
    }
}

impl Frames {
    fn end_batch_with(&mut self, frame: Frame) {
        self.end_batch();
        self.frames.push(frame);
    }

    /// Ends the batch, so that later records go to the next one.
    pub fn end_batch(&mut self) {
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            self.frames.push(Frame::Events(encode::batch(&records).into()));
        }
    }
}

/// A fake kernel whose reports are recorded, with the optional features of Linux 6.15 and later.
/// Its time only changes through [`at`](FakeKernel::at).
pub type RecordedKernel = FakeKernel<Frames>;

impl RecordedKernel {
    /// The start time of every recording.
    pub const BEGIN: Nanos = 1_000_000_000_000;

    /// Starts a recording of the host `web-1`.
    #[must_use]
    pub fn begin() -> Self {
        let session = Session {
            synfin: "0.1.0".into(),
            host: "web-1".into(),
            kernel: "6.12.0-test".into(),
            // 2026-01-02T03:04:05Z
            clock: ClockAnchor {
                monotonic_ns: Self::BEGIN,
                realtime_ns: 1_767_323_045_000_000_000,
            },
            hooks: vec!["inet_sock_set_state".into(), "tcp_send_reset".into()],
            coverage: Coverage::from_names(&["resets"]),
            limitations: Vec::new(),
            ring_bytes: 1 << 24,
            sysctls: [("net.ipv4.tcp_tw_reuse".into(), "2".into())].into(),
            ..Session::default()
        };
        let frames = vec![Frame::Session(Box::new(session))];
        let mut kernel = Self::new(Self::BEGIN, Frames { frames, ..Frames::default() });
        (kernel.step, kernel.shows_children) = (0, true);
        kernel.scan_length = 2 * MILLISECOND;
        kernel.accept_queue = AcceptQueue { depth: 3, limit: 128 };
        kernel
    }

    /// The frames, after ending the last batch.
    #[must_use]
    pub fn into_frames(self) -> Vec<Frame> {
        self.into_receiver().frames
    }

    /// A scan of the host's namespace with exactly this output.
    pub fn scan_host(&mut self, found: impl IntoIterator<Item = Input>) {
        self.scan_of(HOST_NETNS, found);
    }
}

/// The bytes of a recording with these frames.
///
/// # Panics
///
/// Never: writing to memory succeeds.
#[must_use]
pub fn recorded(frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut recorder = Recorder::new(&mut file).expect("writing to memory succeeds");
    frames.iter().for_each(|frame| recorder.write(frame).expect("writing to memory succeeds"));
    file
}

/// Writes a recording with these frames to a directory and returns its path.
///
/// # Panics
///
/// If it cannot be written, or its path is not UTF-8.
#[must_use]
pub fn recording(folder: impl AsRef<Path>, frames: &[Frame]) -> String {
    let path = folder.as_ref().join("recording");
    fs::write(&path, recorded(frames)).expect("a writable directory");
    path.into_os_string().into_string().expect("a UTF-8 path")
}
