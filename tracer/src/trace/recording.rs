//! Recordings: all input of a tracker, as frames. A recording contains exactly the input of the live
//! tracker, so a replay gives the same figures.
//!
//! A file is [`MAGIC`], then frames. A frame is its kind (1 byte), the length of its payload
//! (4 bytes), the CRC-32 of kind and payload (4 bytes), the payload. All little-endian. The first
//! frame is the [`Session`]. Payloads are JSON, except for the records of the eBPF programs, which
//! are stored unchanged. A reader converts the records of version 2, see `version2`.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::trace::{
    counters::{NetnsCounters, Tick},
    names::Names,
    scan::{NamespaceList, ScanBegin, ScanEnd},
    session::Session,
    version2,
};

/// The first bytes of every recording; the last is the version.
pub const MAGIC: [u8; 8] = *b"synfin\x00\x03";

/// The largest payload: enough for a scan of two million sockets.
const LARGEST_FRAME: u32 = 256 << 20;

/// Payloads are read in chunks of this size.
const CHUNK: usize = 1 << 20;

/// A unit of input. Records of the eBPF programs are still bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// How the trace was made.
    Session(Box<Session>),
    /// Records of the ring buffer: see [`wire::records`](crate::trace::wire::records).
    Events(Bytes),
    /// A scan was requested.
    ScanBegin(ScanBegin),
    /// Sockets that the scan found: see [`wire::scan_records`](crate::trace::wire::scan_records).
    Scanned(Bytes),
    /// The scan is over.
    ScanEnd(ScanEnd),
    /// The current time and counters.
    Tick(Tick),
    /// Processes and their sockets: see [`wire::socket_holders`](crate::trace::wire::socket_holders).
    SocketHolders(Bytes),
    /// The same of listeners and of connections in CLOSE_WAIT only.
    ListenerHolders(Bytes),
    /// Names of cgroups, containers and network namespaces.
    Names(Names),
    /// The network namespaces of the host: others are gone.
    Namespaces(NamespaceList),
    /// The kernel's counters of a network namespace, read between two scans of its sockets.
    Counters(NetnsCounters),
}

/// Why a recording cannot be read completely.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file is not a recording.
    #[error("this is not a synfin recording")]
    NotARecording,
    /// The recording has another version of the format.
    #[error("this recording has format {0}, but this synfin reads formats {old} and {new}", old = version2::VERSION, new = MAGIC[7])]
    Version(u8),
    /// The recording ends within the frame at this offset.
    #[error("the recording is cut off at byte {0}: the last frame is incomplete")]
    Truncated(u64),
    /// A frame was changed after it was written.
    #[error("the recording is damaged at byte {offset}: {what}")]
    Damaged {
        /// The offset of the frame.
        offset: u64,
        /// What is wrong with the frame.
        what: String,
    },
    /// The file could not be read.
    #[error("cannot read the recording")]
    Io(#[from] io::Error),
}

impl RecordingError {
    /// The error of a recording whose first frame is not a session.
    pub(crate) fn no_session() -> Self {
        Self::Damaged { offset: 8, what: "it does not begin with a session".into() }
    }
}

/// Writes a recording, frame by frame.
pub struct Recorder<W: Write>(W);

impl<W: Write> Recorder<W> {
    /// Begins a recording: writes [`MAGIC`].
    ///
    /// # Errors
    ///
    /// Writing the header fails.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        Ok(Self(out))
    }

    /// Appends a frame.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn write(&mut self, frame: &Frame) -> io::Result<()> {
        match frame {
            Frame::Session(session) => self.write_json(1, session),
            Frame::Events(batch) => self.write_payload(2, batch),
            Frame::ScanBegin(begin) => self.write_json(3, begin),
            Frame::Scanned(sockets) => self.write_payload(4, sockets),
            Frame::ScanEnd(end) => self.write_json(5, end),
            Frame::Tick(tick) => self.write_json(6, tick),
            Frame::SocketHolders(holders) => self.write_payload(7, holders),
            Frame::Names(names) => self.write_json(8, names),
            Frame::Namespaces(list) => self.write_json(9, list),
            Frame::Counters(read) => self.write_json(10, read),
            Frame::ListenerHolders(holders) => self.write_payload(11, holders),
        }
    }

    /// The underlying writer.
    pub fn get_ref(&self) -> &W {
        &self.0
    }

    /// The underlying writer, for example to take written bytes from memory.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.0
    }

    /// Flushes the underlying writer.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn write_json(&mut self, kind: u8, value: &impl Serialize) -> io::Result<()> {
        self.write_payload(kind, &serde_json::to_vec(value)?)
    }

    fn write_payload(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|&len| len <= LARGEST_FRAME)
            .ok_or_else(|| io::Error::other("a frame of the recording is too large"))?;
        self.0.write_all(&[kind])?;
        self.0.write_all(&len.to_le_bytes())?;
        self.0.write_all(&checksum(kind, payload).to_le_bytes())?;
        self.0.write_all(payload)
    }
}

/// Reads a recording, frame by frame. After an error it yields nothing.
pub struct Reader<R: Read> {
    input: R,
    version: u8,
    offset: u64,
    failed: bool,
    /// Memory for payloads; reused once all frames in it are dropped.
    buffer: BytesMut,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// The input is not a recording, has another format version, or cannot be read.
    pub fn new(mut input: R) -> Result<Self, RecordingError> {
        let mut magic = [0; MAGIC.len()];
        let read = read_up_to(&mut input, &mut magic)?;
        if read < magic.len() || magic[..7] != MAGIC[..7] {
            return Err(RecordingError::NotARecording);
        }
        let version = magic[7];
        if version != MAGIC[7] && version != version2::VERSION {
            return Err(RecordingError::Version(version));
        }
        Ok(Self {
            input,
            version,
            offset: magic.len() as u64,
            failed: false,
            buffer: BytesMut::new(),
        })
    }

    /// The offset after the last frame that was read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, RecordingError> {
        let start = self.offset;
        let mut head = [0; 9];
        match read_up_to(&mut self.input, &mut head)? {
            0 => return Ok(None),
            9 => {}
            _ => return Err(RecordingError::Truncated(start)),
        }
        let [kind, len @ .., _, _, _, _] = head;
        let len = u32::from_le_bytes(len);
        let expected = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
        let damaged = |what: String| RecordingError::Damaged { offset: start, what };
        if len > LARGEST_FRAME {
            return Err(damaged(format!("a frame cannot have {len} bytes")));
        }
        let payload = self.read(len as usize)?.ok_or(RecordingError::Truncated(start))?;
        self.offset += head.len() as u64 + u64::from(len);
        if checksum(kind, &payload) != expected {
            return Err(damaged("the checksum is wrong".into()));
        }
        let frame = match kind {
            1 => Frame::Session(json(&payload).map_err(damaged)?),
            2 if self.version == version2::VERSION => Frame::Events(version2::events(&payload)),
            2 => Frame::Events(payload),
            3 => Frame::ScanBegin(json(&payload).map_err(damaged)?),
            4 if self.version == version2::VERSION => Frame::Scanned(version2::scanned(&payload)),
            4 => Frame::Scanned(payload),
            5 => Frame::ScanEnd(json(&payload).map_err(damaged)?),
            6 => Frame::Tick(json(&payload).map_err(damaged)?),
            7 => Frame::SocketHolders(payload),
            8 => Frame::Names(json(&payload).map_err(damaged)?),
            9 => Frame::Namespaces(json(&payload).map_err(damaged)?),
            10 => Frame::Counters(json(&payload).map_err(damaged)?),
            11 => Frame::ListenerHolders(payload),
            unknown => return Err(damaged(format!("there is no frame of kind {unknown}"))),
        };
        Ok(Some(frame))
    }

    /// The next `len` bytes; `None` if the input ends earlier.
    fn read(&mut self, len: usize) -> io::Result<Option<Bytes>> {
        while self.buffer.len() < len {
            // The buffer grows as data arrives, so that a wrong length allocates little.
            let filled = self.buffer.len();
            self.buffer.resize(len.min(filled + CHUNK), 0);
            let read = read_up_to(&mut self.input, &mut self.buffer[filled..])?;
            if read < self.buffer.len() - filled {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer.split().freeze()))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Frame, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_frame();
        self.failed = next.is_err();
        next.transpose()
    }
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

/// Like `read_exact`, but returns the number of bytes read if the input ends earlier.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::counters::{Counters, KERNEL_COUNTERS, KernelCounters};

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Session(Box::new(Session { host: "h".into(), ..Session::default() })),
            Frame::Events(Bytes::from_static(b"\x01\0\0\0\x07")),
            Frame::ScanBegin(ScanBegin { netns: 1, time: 2 }),
            Frame::Scanned(Bytes::from_static(b"")),
            Frame::ScanEnd(ScanEnd {
                netns: 1,
                started: 3,
                ended: 4,
                error: None,
                ephemeral_ports: None,
                counters: None,
            }),
            Frame::Tick(Tick { time: 5, counters: Counters::default(), ..Tick::default() }),
            Frame::SocketHolders(Bytes::from_static(b"h")),
            Frame::ListenerHolders(Bytes::from_static(b"l")),
            Frame::Names(Names { namespaces: [(1, "blue".into())].into(), ..Names::default() }),
            Frame::Namespaces(NamespaceList { time: 6, namespaces: vec![1, 2] }),
            Frame::Counters(NetnsCounters {
                netns: 1,
                counters: KernelCounters { time: 6, counts: [7; KERNEL_COUNTERS.len()] },
            }),
        ]
    }

    fn written() -> Vec<u8> {
        let mut file = Vec::new();
        let mut recorder = Recorder::new(&mut file).unwrap();
        for frame in frames() {
            recorder.write(&frame).unwrap();
        }
        file
    }

    #[test]
    fn written_frames_are_read_back() {
        let read: Result<Vec<_>, _> = Reader::new(&written()[..]).unwrap().collect();
        assert_eq!(read.unwrap(), frames());
    }

    #[test]
    fn truncation_is_detected_at_every_byte() {
        let file = written();
        let whole = frames();
        for len in MAGIC.len()..file.len() {
            let read: Vec<_> = Reader::new(&file[..len]).unwrap().collect();
            let complete = read.iter().flatten().count();
            assert!(read.iter().flatten().eq(&whole[..complete]), "truncated at {len}");
            match read.last() {
                Some(Err(RecordingError::Truncated(offset))) => assert!(*offset < len as u64),
                Some(Err(other)) => panic!("truncated at {len}: {other}"),
                Some(Ok(_)) | None => {}
            }
        }
    }

    #[test]
    fn every_damaged_byte_is_detected() {
        let file = written();
        for position in MAGIC.len()..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 1;
            let failed = Reader::new(&damaged[..]).unwrap().any(|frame| frame.is_err());
            assert!(failed, "byte {position}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(Reader::new(&b"PK\x03\x04"[..]), Err(RecordingError::NotARecording)));
        assert!(matches!(Reader::new(&b""[..]), Err(RecordingError::NotARecording)));
        assert!(matches!(Reader::new(&b"synfin\x00\x09"[..]), Err(RecordingError::Version(9))));
    }
}
