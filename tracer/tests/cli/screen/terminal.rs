//! The screen in a tmux terminal: from start to quit, with the terminal restored at the end.

use std::{
    process::{Command, id},
    thread,
    time::{Duration, Instant},
};

use synfin_testkit::{recording, sample::web_server};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_synfin");

#[test]
fn keys_navigate_and_quitting_leaves_the_terminal_clean() {
    let tmux = Tmux::start("quit", 80, 24);
    tmux.begin();
    tmux.until("reset_by_peer 1");
    tmux.keys(&["s", "s", "s", "s"]);
    tmux.until("NEW/s▼");
    tmux.keys(&["/", "8", "0", "8", "0", "Enter"]);
    let shown = tmux.until("/8080");
    assert!(shown.contains("api") && !shown.contains("mailer"), "{shown}");
    tmux.keys(&["Enter"]);
    tmux.until("HANDSHAKES");
    tmux.keys(&["Enter"]);
    let shown = tmux.until("LOCAL STATE");
    assert!(shown.contains("SYN-ACK") && shown.contains("RST"), "{shown}");
    tmux.keys(&["Escape"]);
    tmux.until("HANDSHAKES");
    tmux.resize(120, 40);
    tmux.until("HANDSHAKES");
    tmux.keys(&["q"]);
    tmux.is_clean("ended: 0");
}

#[test]
fn a_signal_leaves_the_terminal_clean() {
    for signal in ["TERM", "INT"] {
        let tmux = Tmux::start(signal, 80, 24);
        tmux.begin();
        tmux.until("reset_by_peer 1");
        let pid = tmux.display("#{pane_pid}");
        // The only child of the shell.
        let killed = Command::new("pkill")
            .args(["-P", pid.trim(), &format!("-{signal}"), "synfin"])
            .status();
        assert!(killed.unwrap().success());
        tmux.is_clean("ended: 0");
    }
}

/// A tmux server with one terminal.
struct Tmux {
    socket: String,
    folder: TempDir,
}

impl Tmux {
    fn start(name: &str, width: u16, height: u16) -> Self {
        let tmux = Self {
            socket: format!("synfin-test-{}-{name}", id()),
            folder: TempDir::new().unwrap(),
        };
        let (width, height) = (width.to_string(), height.to_string());
        tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "env PS1='> ' sh",
        ]);
        tmux.until(">");
        tmux
    }

    /// Prints a line, then starts the screen.
    fn begin(&self) {
        let file = recording(&self.folder, &web_server());
        self.keys(&[
            &format!("clear; echo before; {PROGRAM} --from {file}; echo ended: $?"),
            "Enter",
        ]);
    }

    /// Waits for this text and returns the terminal's content.
    fn until(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let shown = self.run(&["capture-pane", "-p"]);
            if shown.contains(text) {
                return shown;
            }
            assert!(Instant::now() < deadline, "{text:?} does not appear:\n{shown}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asserts that the shell's text, cursor and modes are restored.
    fn is_clean(&self, ended: &str) {
        let shown = self.until(ended);
        assert!(shown.contains("before"), "{shown}");
        assert!(!shown.contains("HANDSHAKES") && !shown.contains("STATES"), "{shown}");
        assert_eq!(
            self.display("#{alternate_on} #{cursor_flag} #{mouse_any_flag}").trim(),
            "0 1 0"
        );
        self.keys(&["stty -a | tr ';' '\\n'", "Enter"]);
        let modes = self.until("echoctl");
        let modes: Vec<_> = modes.split_whitespace().collect();
        for mode in ["echo", "icanon", "isig", "opost", "icrnl"] {
            assert!(modes.contains(&mode), "{mode}: {modes:?}");
        }
    }

    fn keys(&self, keys: &[&str]) {
        for key in keys {
            self.run(&["send-keys", key]);
        }
    }

    fn resize(&self, width: u16, height: u16) {
        self.run(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    fn display(&self, format: &str) -> String {
        self.run(&["display-message", "-p", format])
    }

    fn run(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(args).output();
        let output = output.expect("tmux, which `cargo xtask test` installs");
        assert!(
            output.status.success(),
            "tmux {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}
