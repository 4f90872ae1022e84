//! The live view without a terminal: draws the end of a recording after a sequence of keys.

use std::{ops::ControlFlow, sync::Arc};

use anyhow::Result;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, crossterm::event::KeyCode};

use super::{draw::draw, keys::press, model::Model, refresh::RefreshTimer, update::SelfUsage};
use crate::{
    output::consumer::Consumer,
    screen::Options,
    trace::{session::Session, time::Nanos},
    tracker::{Change, ChangeKinds, Tracker},
};

/// Consumes the same data as the screen, and draws on request.
pub(crate) struct Headless {
    model: Model,
    timer: RefreshTimer,
}

impl Headless {
    pub(crate) fn new(options: Options) -> Self {
        Self { model: Model::new(options), timer: RefreshTimer::default() }
    }

    /// Presses keys. Each character is a letter, an arrow, a line break for Enter, or an escape.
    pub(crate) fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '↑' => KeyCode::Up,
                '↓' => KeyCode::Down,
                letter => KeyCode::Char(letter),
            };
            let _ = press(&mut self.model, code.into());
        }
    }

    /// Draws a screen of this size into a buffer.
    pub(crate) fn drawn(&self, width: u16, height: u16) -> Buffer {
        let mut terminal =
            Terminal::new(TestBackend::new(width, height)).unwrap_or_else(|never| match never {});
        let _ = terminal.draw(|frame| draw(&self.model, frame));
        terminal.backend().buffer().clone()
    }
}

/// The usage of synfin is not measured here, so that pictures are reproducible.
const NO_USAGE: SelfUsage = SelfUsage { cpu_pct: 0.0, bytes: 0 };

impl Consumer for Headless {
    fn wanted_changes(&self) -> ChangeKinds {
        RefreshTimer::WANTED_CHANGES
    }

    fn change(&mut self, change: &Change) {
        self.timer.change(change);
    }

    fn begin(&mut self, session: &Arc<Session>) {
        self.timer = RefreshTimer::new(session);
        self.model.session = session.clone();
    }

    fn tick(&mut self, tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        if let Some(update) = self.timer.due(tracker, || NO_USAGE) {
            self.model.take(update);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_tick(&self) -> Option<Nanos> {
        Some(self.timer.next_refresh)
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let update = self.timer.update(tracker, NO_USAGE);
        self.model.take(update);
        self.model.is_over = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::time::ClockAnchor;

    fn text(headless: &Headless) -> String {
        headless.drawn(80, 24).content().iter().map(ratatui::buffer::Cell::symbol).collect()
    }

    #[test]
    fn before_the_first_interval_is_complete_nothing_is_claimed() {
        let mut headless = Headless::new(Options::default());
        let nothing_known = |shown: &str| {
            assert!(shown.contains("collecting …"), "{shown}");
            assert!(!shown.contains("no ") && !shown.contains("none"), "{shown}");
        };
        let shown = text(&headless);
        nothing_known(&shown);
        assert!(!shown.contains("UTC"), "{shown}");
        let clock =
            ClockAnchor { monotonic_ns: 5_000_000_000, realtime_ns: 1_764_000_000_000_000_000 };
        headless.begin(&Arc::new(Session { clock, ..Session::default() }));
        for keys in ["", "d"] {
            headless.press(keys);
            let shown = text(&headless);
            nothing_known(&shown);
            assert!(shown.contains("2025-11-24 16:00:00 UTC"), "{shown}");
        }
    }
}
