//! synfin in a terminal.

use std::{
    fs::File,
    io::{self, Read, Write},
    num::NonZero,
    os::fd::AsRawFd,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    pty::{Winsize, openpty},
};

use super::{PROGRAM, deadline};

/// A terminal in which synfin runs.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    output: mpsc::Receiver<Vec<u8>>,
    shown: vt100::Parser,
}

impl Terminal {
    pub(crate) fn start(args: &[&str], columns: u16, lines: u16) -> Self {
        let terminal = openpty(&size(columns, lines), None).expect("a terminal");
        // Otherwise synfin inherits the master, and its terminal never closes.
        fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
        let end = || Stdio::from(terminal.slave.try_clone().expect("the terminal"));
        let mut command = Command::new(PROGRAM);
        command.args(args).env_remove("NO_COLOR").env("TERM", "xterm");
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("synfin");
        // The command holds our copies of the terminal's other side.
        drop((command, terminal.slave));
        let master = File::from(terminal.master);
        let mut from = master.try_clone().expect("the terminal");
        let (put, output) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut chunk) {
                if put.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, master, output, shown: vt100::Parser::new(some(lines), some(columns), 0) }
    }

    /// Types text.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal accepts keys");
    }

    pub(crate) fn resize(&mut self, columns: u16, lines: u16) {
        // SAFETY: the size is valid for reads.
        let result = unsafe {
            libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size(columns, lines))
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        self.shown.screen_mut().set_size(some(lines), some(columns));
    }

    /// Waits until this text is shown; returns how long that took.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let shown = self.shown.screen().contents();
            if shown.contains(text) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < deadline(), "no {text:?} in:\n{shown}");
            if let Ok(chunk) = self.output.recv_timeout(Duration::from_millis(100)) {
                self.shown.process(&chunk);
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until synfin exits, and returns the content of the terminal.
    pub(crate) fn end(mut self) -> String {
        let status = self.child.wait().expect("its status");
        while let Ok(chunk) = self.output.recv_timeout(Duration::from_millis(100)) {
            self.shown.process(&chunk);
        }
        assert!(status.success(), "{status}: {}", self.shown.screen().contents());
        self.shown.screen().contents()
    }
}

/// A test that failed leaves no synfin behind.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn some(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a terminal has a size")
}

fn size(ws_col: u16, ws_row: u16) -> Winsize {
    Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }
}
