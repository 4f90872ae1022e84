//! Every view of the screen, drawn without a terminal.

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use synfin::{app::draw_recording, trace::recording::Frame};
use synfin_common::state::TcpState::{Close, SynSent};
use synfin_testkit::{
    RecordedKernel, Socket, recording,
    sample::{web_server, web_server_with_losses},
};
use tempfile::TempDir;

use crate::golden::assert_golden;

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

/// The views, and the keys that open them.
const VIEWS: [(&str, &str); 9] = [
    ("rows", ""),
    ("by-remote-total", "gt"),
    ("by-owner-sorted", "ggsss"),
    ("filtered", "/8080\n"),
    ("row", "/8080\n\n"),
    // The most severe comes first: a reset of a connection in use.
    ("reset", "/8080\n\n\n"),
    ("closed-by-us", "/curl\n\n↓\n"),
    ("findings", "d"),
    ("help", "?"),
];

#[test]
fn views_match_golden_files() {
    for (name, keys) in VIEWS {
        for (width, height) in SIZES {
            let shown = text(&drawn(&web_server(), keys, width, height));
            assert_golden(&format!("screen/{name}-{width}x{height}.txt"), &shown);
        }
    }
    assert_golden("screen/losses-80x24.txt", &text(&drawn(&web_server_with_losses(), "", 80, 24)));
    assert_golden("screen/plain-80x24.txt", &text(&drawn(&web_server(), "c", 80, 24)));
}

#[test]
fn only_problems_are_red_and_nothing_else_has_a_colour() {
    let screen = drawn(&web_server_with_losses(), "", 80, 24);
    let red: String =
        cells(&screen).filter(|cell| cell.fg == Color::Red).map(Cell::symbol).collect();
    assert!(red.contains("lost 3, missed 1"), "{red}");
    let others = cells(&screen).filter(|cell| cell.fg != Color::Red);
    assert!(others.into_iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
}

#[test]
fn plain_mode_has_no_colours_and_no_line_drawing() {
    for (name, keys) in VIEWS {
        let screen = drawn(&web_server(), &format!("c{keys}"), 80, 24);
        for cell in cells(&screen) {
            assert_eq!(
                (cell.fg, cell.bg, cell.modifier),
                (Color::Reset, Color::Reset, Modifier::empty())
            );
        }
        let lines = ['─', '┄', '█', '▁', '▼', '◀', '▶', '✗', '↔'];
        assert_eq!(text(&screen).find(lines), None, "{name}: {}", text(&screen));
    }
}

#[test]
fn control_characters_are_not_drawn() {
    let mut frames = web_server();
    if let Frame::Session(session) = &mut frames[0] {
        session.host = "\x1b]0;owned\x07".into();
        session.kernel = "\u{202e}6.1".into();
    }
    for (_, keys) in VIEWS {
        for (width, height) in SIZES {
            let screen = drawn(&frames, keys, width, height);
            let is_control = |cell: &&Cell| {
                cell.symbol().chars().any(|letter| letter.is_control() || letter == '\u{202e}')
            };
            assert_eq!(cells(&screen).find(is_control), None);
        }
    }
}

/// Every size shows some text, and drawing stays within it.
#[test]
fn every_terminal_size_shows_something() {
    for (width, height) in [(1, 1), (39, 24), (40, 8), (60, 9), (80, 7), (300, 100)] {
        for (_, keys) in VIEWS {
            let shown = text(&drawn(&web_server(), keys, width, height));
            assert!(!shown.trim().is_empty(), "{width}x{height} {keys:?}");
        }
    }
}

#[test]
fn a_scan_of_ten_thousand_ports_is_drawn_in_time() {
    let mut kernel = RecordedKernel::begin();
    kernel.scan_host([]);
    for n in 0..10_000_u64 {
        let sock = Socket::between(n + 1, "192.0.2.10:33001", &format!("203.0.113.80:{}", n + 1));
        kernel.at(n / 10).opens(sock, (Close, SynSent), Some((666, b"\x1b[2Jscan\n")));
        kernel.receives_reset(sock);
        kernel.closes_with(sock, SynSent, |end| end.err = 111);
    }
    kernel.tick_at(1_000);
    kernel.tick_at(2_000);
    let frames = kernel.into_frames();
    let begun = std::time::Instant::now();
    for keys in ["", "\n", "gg", "/77\n", "d"] {
        let shown = text(&drawn(&frames, keys, 80, 24));
        assert!(shown.contains("connect_refused_rst 10000"), "{shown}");
    }
    // Five runs over the whole recording: a limit against hanging, not a measurement.
    assert!(begun.elapsed().as_secs() < 60);
}

fn drawn(frames: &[Frame], keys: &str, width: u16, height: u16) -> Buffer {
    let dir = TempDir::new().unwrap();
    let file = recording(&dir, frames);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(draw_recording(file.as_ref(), keys, width, height)).unwrap()
}

fn cells(screen: &Buffer) -> impl Iterator<Item = &Cell> {
    screen.content().iter()
}

/// The screen's lines as text.
fn text(screen: &Buffer) -> String {
    let lines = screen.content().chunks(screen.area.width.into());
    let line = |cells: &[Cell]| {
        cells.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}
