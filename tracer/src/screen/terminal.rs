//! Takes over the terminal while the screen is shown, and always restores it.

use std::{
    io::{self, BufWriter, Write},
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyEventKind},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::Notify;

use super::{
    draw::draw,
    keys::{Action, press},
    model::Model,
    update::Mailbox,
};
use crate::message::failure::Failure;

/// Maximum time between two checks for new data.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The thread that draws and handles keys.
pub(crate) struct Display {
    thread: Option<JoinHandle<io::Result<()>>>,
    terminal: TakenTerminal,
    /// Notified when the thread ends on its own.
    closed: Arc<Notify>,
}

impl Display {
    /// Takes over the terminal until this value is dropped or the user quits.
    pub(crate) fn open(model: Model, mailbox: Mailbox) -> Result<Self> {
        Self::run(move |terminal| show(model, &mailbox, terminal))
    }

    fn run(show: impl FnOnce(&TakenTerminal) -> io::Result<()> + Send + 'static) -> Result<Self> {
        let terminal = TakenTerminal::take()?;
        let closed = Arc::new(Notify::new());
        let at_end = NotifyAtEnd { terminal: terminal.clone(), closed: closed.clone() };
        let thread = thread::Builder::new().name("screen".into());
        let thread = thread.spawn(move || show(&at_end.terminal)).inspect_err(|_| {
            terminal.leave();
        })?;
        Ok(Self { thread: Some(thread), terminal, closed })
    }

    /// Notified when the user quits, or when the drawing thread fails or panics.
    pub(crate) fn closed(&self) -> Arc<Notify> {
        self.closed.clone()
    }

    /// Fails if the drawing thread has ended with an error.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the terminal could not be used, a [`Failure`] if the thread panicked.
    pub(crate) fn failure(&mut self) -> Result<()> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) { self.join() } else { Ok(()) }
    }

    fn join(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        match thread.join() {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(Failure::panicked("the thread that draws the screen has stopped").into()),
        }
    }
}

/// Notifies the main thread when the drawing thread ends by itself, even by a panic: the main
/// thread may have nothing else to wait for.
struct NotifyAtEnd {
    terminal: TakenTerminal,
    closed: Arc<Notify>,
}

impl Drop for NotifyAtEnd {
    fn drop(&mut self) {
        // After a panic, the hook has already restored the terminal.
        if self.terminal.leave() || thread::panicking() {
            self.closed.notify_one();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.terminal.leave();
        let _ = self.join();
    }
}

fn show(mut model: Model, mailbox: &Mailbox, taken: &TakenTerminal) -> io::Result<()> {
    let out = BufWriter::with_capacity(1 << 16, taken.clone());
    let mut terminal = Terminal::new(CrosstermBackend::new(out))?;
    let mut is_changed = true;
    while taken.is_taken() {
        is_changed |= model.receive(mailbox);
        if std::mem::take(&mut is_changed) {
            terminal.draw(|frame| draw(&model, frame))?;
        }
        let mut timeout = POLL_INTERVAL;
        while event::poll(timeout)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    match press(&mut model, key) {
                        Action::Quit => return Ok(()),
                        Action::Redraw => terminal.clear()?,
                        Action::Nothing => {}
                    }
                }
                Event::Resize(..) => {}
                _ => continue,
            }
            is_changed = true;
            timeout = Duration::ZERO;
        }
    }
    Ok(())
}

/// The terminal while it is taken over. Writes after that are discarded.
#[derive(Clone)]
struct TakenTerminal(Arc<AtomicBool>);

impl TakenTerminal {
    /// Takes over the terminal. A panic hook restores it before the panic is reported.
    fn take() -> io::Result<Self> {
        let terminal = Self(Arc::default());
        let (at_panic, report) = (terminal.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            at_panic.leave();
            report(panic);
        }));
        enable_raw_mode()?;
        terminal.0.store(true, SeqCst);
        execute!(io::stdout(), EnterAlternateScreen).inspect_err(|_| {
            terminal.leave();
        })?;
        Ok(terminal)
    }

    fn is_taken(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// Restores the terminal. Returns whether it was still taken over.
    fn leave(&self) -> bool {
        let was_taken = self.0.swap(false, SeqCst);
        if was_taken {
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
            let _ = disable_raw_mode();
        }
        was_taken
    }
}

impl Write for TakenTerminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stdout().lock();
        if self.is_taken() {
            out.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "also in the functions that tests share")]

    use std::{
        env,
        fs::File,
        io::Read,
        process::{Command, ExitStatus},
    };

    use nix::{
        pty::openpty,
        sys::termios::{LocalFlags, Termios, tcgetattr},
    };

    use super::*;
    use crate::screen::model::Options;

    /// Environment variable set in a test that has started itself in a terminal of its own.
    const PANICS: &str = "SYNFIN_TEST_PANICS";

    fn must_panic() -> bool {
        env::var_os(PANICS).is_some()
    }

    /// The result of a test that started itself in a terminal, where it panicked.
    struct Panicked {
        status: ExitStatus,
        shown: String,
        /// The terminal modes before and after.
        modes: [Termios; 2],
    }

    fn run_again(test: &str) -> Panicked {
        let terminal = openpty(None, None).unwrap();
        let before = tcgetattr(&terminal.slave).unwrap();
        let stdio = || terminal.slave.try_clone().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        let test = format!("screen::terminal::tests::{test}");
        command.args(["--exact", &test, "--nocapture"]).env(PANICS, "1").env("TERM", "xterm");
        let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        // These hold copies of the slave end. Reading from the master ends when the last copy is
        // closed.
        drop((command, terminal.slave));
        let mut master = File::from(terminal.master);
        let (mut shown, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = master.read(&mut chunk) {
            shown.extend(&chunk[..length]);
        }
        let status = child.wait().unwrap();
        let modes = [before, tcgetattr(&master).unwrap()];
        Panicked { status, shown: String::from_utf8(shown).unwrap(), modes }
    }

    #[test]
    fn a_panic_restores_the_terminal() {
        if must_panic() {
            let _display =
                Display::open(Model::new(Options::default()), Mailbox::default()).unwrap();
            thread::sleep(4 * POLL_INTERVAL);
            panic!("on purpose");
        }
        let Panicked { status, shown, modes: [mut before, after] } =
            run_again("a_panic_restores_the_terminal");
        assert!(!status.success());
        let (screen, left) =
            shown.rsplit_once("\x1b[?1049l").expect("the alternate screen is left");
        assert!(screen.contains("\x1b[?1049h"), "the alternate screen was entered: {shown}");
        assert!(left.contains("\x1b[?25h"), "the cursor is shown again: {left}");
        assert!(left.contains("on purpose"), "the panic is reported after the screen: {left}");
        before.local_flags.remove(LocalFlags::PENDIN);
        assert_eq!(after.local_flags & !LocalFlags::PENDIN, before.local_flags);
        assert_eq!(after.output_flags, before.output_flags);
    }

    #[test]
    fn a_panic_of_the_screen_is_reported_to_the_main_thread() {
        if must_panic() {
            let mut display = Display::run(|_| panic!("on purpose")).unwrap();
            thread::spawn(|| {
                thread::sleep(Duration::from_mins(1));
                std::process::exit(1);
            });
            // The same wait as at the end of a recording, where nothing else wakes the main thread.
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(display.closed().notified());
            let failure = display.join().unwrap_err();
            assert!(failure.to_string().contains("panicked"), "{failure:#}");
            return;
        }
        let Panicked { status, shown, .. } =
            run_again("a_panic_of_the_screen_is_reported_to_the_main_thread");
        assert!(status.success(), "{shown}");
        let (_, left) = shown.rsplit_once("\x1b[?1049l").expect("the alternate screen is left");
        assert!(left.contains("on purpose"), "{left}");
    }
}
