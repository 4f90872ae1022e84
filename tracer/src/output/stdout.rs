//! Standard output, buffered until a row or report is complete.

use std::{
    io::{self, BufWriter, StdoutLock, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::message::{patience, stderr::warn};

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 16;

/// Bytes that may wait for a reader while a live trace runs. What comes then is left out.
const ROOM: usize = 32 << 20;

/// How long the reader may take if synfin is asked to end, before its end is no longer delayed.
const GRACE: Duration = Duration::from_secs(5);

/// Standard output.
pub(crate) enum Stdout {
    /// The caller waits for the reader.
    Direct(BufWriter<StdoutLock<'static>>),
    /// A thread waits for the reader.
    Live(Background),
}

impl Stdout {
    /// Standard output that the caller waits for.
    pub(crate) fn direct() -> Self {
        Self::Direct(BufWriter::with_capacity(CHUNK, io::stdout().lock()))
    }

    /// Standard output of a live trace, which does not wait for the reader.
    pub(crate) fn live() -> io::Result<Self> {
        Background::start(io::stdout(), ROOM).map(Self::Live)
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(out) => out.write(bytes),
            Self::Live(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(out) => out.flush(),
            Self::Live(out) => out.flush(),
        }
    }
}

/// Output that a thread writes. During a live trace nothing waits for it, and rows and reports for which
/// there is no room are left out as a whole; afterwards a flush waits until everything is written.
pub(crate) struct Background {
    /// What was written since the last flush.
    pending: Vec<u8>,
    shared: Arc<Shared>,
    room: usize,
    /// Number of lines that were left out.
    left_out: u64,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The queue has changed.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Not yet taken by the thread.
    bytes: Vec<u8>,
    /// Whether the thread is writing.
    is_writing: bool,
    /// The thread has ended because of this.
    error: Option<io::Error>,
    /// No more will come.
    is_closed: bool,
}

impl Queue {
    fn is_busy(&mut self) -> bool {
        self.error.is_none() && (self.is_writing || !self.bytes.is_empty())
    }

    /// Returns the thread's error, every time.
    fn check(&self) -> io::Result<()> {
        self.error.as_ref().map_or(Ok(()), |error| {
            let code = error.raw_os_error();
            Err(code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error))
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is in the queue until that is closed.
    fn write_to(&self, mut out: impl Write) {
        let mut queue = self.lock();
        while !(queue.is_closed && queue.bytes.is_empty()) {
            if queue.bytes.is_empty() {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let bytes = mem::take(&mut queue.bytes);
            queue.is_writing = true;
            drop(queue);
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            queue = self.lock();
            queue.is_writing = false;
            queue.error = written.err();
            self.changed.notify_all();
            if queue.error.is_some() {
                return;
            }
        }
    }
}

impl Background {
    /// Starts the thread. `room`: the number of bytes that may wait during a live trace.
    fn start(out: impl Write + Send + 'static, room: usize) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("output".into()).spawn(move || writer.write_to(out))?;
        Ok(Self { pending: Vec::new(), shared, room, left_out: 0 })
    }

    /// Appends to the queue, or leaves it out if a live trace would have to wait.
    fn enqueue(&mut self) -> io::Result<()> {
        let mut queue = self.shared.lock();
        queue.check()?;
        if patience::is_tracing() && queue.bytes.len() + self.pending.len() > self.room {
            drop(queue);
            self.leave_out();
            return Ok(());
        }
        queue.bytes.append(&mut self.pending);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn leave_out(&mut self) {
        if self.left_out == 0 {
            warn("the output is read too slowly: lines are left out, so that no events are lost");
        }
        self.left_out += self.pending.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.pending.clear();
    }

    /// Waits until everything is written, or for a while if synfin is to end.
    fn drain(&mut self) -> io::Result<()> {
        let queue = self.shared.lock();
        let mut queue = if patience::must_end_soon() {
            let waited = self.shared.changed.wait_timeout_while(queue, GRACE, Queue::is_busy);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            self.shared
                .changed
                .wait_while(queue, Queue::is_busy)
                .unwrap_or_else(PoisonError::into_inner)
        };
        if queue.is_busy() {
            let why = "nobody reads it, and synfin was asked to end";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        queue.check()?;
        drop(queue);
        match mem::take(&mut self.left_out) {
            0 => {}
            1 => warn("a line was left out, because the output was read too slowly"),
            count => {
                warn(&format!(
                    "{count} lines were left out, because the output was read too slowly"
                ));
            }
        }
        Ok(())
    }
}

impl Write for Background {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK && !patience::is_tracing() {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.enqueue()?;
        }
        if patience::is_tracing() { Ok(()) } else { self.drain() }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes what a test allows it to, and passes that on.
    struct Reader {
        allowed: mpsc::Receiver<io::Result<()>>,
        read: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.allowed.recv().unwrap_or(Err(io::ErrorKind::BrokenPipe.into()))?;
            let _ = self.read.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(room: usize) -> (Background, mpsc::Sender<io::Result<()>>, mpsc::Receiver<Vec<u8>>) {
        let (allow, allowed) = mpsc::channel();
        let (read, received) = mpsc::channel();
        (Background::start(Reader { allowed, read }, room).unwrap(), allow, received)
    }

    /// One test, because whether a trace runs is known to the whole process.
    #[test]
    fn a_trace_does_not_wait_for_the_reader_and_its_end_does() {
        let (mut out, allow, received) = start(8);
        let tracing = patience::Tracing::begin();
        writeln!(out, "first").unwrap();
        out.flush().unwrap();
        // The thread has taken that, and waits.
        while !out.shared.lock().bytes.is_empty() {
            thread::yield_now();
        }
        writeln!(out, "second").unwrap();
        out.flush().unwrap();
        writeln!(out, "no\nroom").unwrap();
        out.flush().unwrap();
        assert_eq!(out.left_out, 2);
        drop(tracing);

        writeln!(out, "end").unwrap();
        (0..3).for_each(|_| allow.send(Ok(())).unwrap());
        out.flush().unwrap();
        assert_eq!(received.try_iter().collect::<Vec<_>>().concat(), b"first\nsecond\nend\n");
        assert_eq!(out.left_out, 0);

        // The thread may have written the last two at once, and then one more is allowed.
        drop(allow);
        let results = [(); 3].map(|()| writeln!(out, "nobody reads").and_then(|()| out.flush()));
        let kinds: Vec<_> =
            results.iter().map(|result| result.as_ref().err().map(io::Error::kind)).collect();
        assert_eq!(kinds[1..], [Some(io::ErrorKind::BrokenPipe); 2]);
    }
}
