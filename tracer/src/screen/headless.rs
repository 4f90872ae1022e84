//! The screen without a terminal: shows the end of a recording after a sequence of keys.

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

/// Receives the same data as the screen.
pub(crate) struct Headless {
    model: Model,
    feed: RefreshTimer,
}

impl Headless {
    pub(crate) fn new(options: Options) -> Self {
        Self { model: Model::new(options), feed: RefreshTimer::default() }
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

/// The own usage of a headless screen, which is not measured.
const FREE: SelfUsage = SelfUsage { cpu_pct: 0.0, bytes: 0 };

impl Consumer for Headless {
    fn wanted_changes(&self) -> ChangeKinds {
        RefreshTimer::WANTED_CHANGES
    }

    fn change(&mut self, change: &Change) {
        self.feed.change(change);
    }

    fn begin(&mut self, session: &Arc<Session>) {
        self.feed = RefreshTimer::of(session);
        self.model.session = session.clone();
    }

    fn tick(&mut self, tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        if let Some(update) = self.feed.due(tracker, || FREE) {
            self.model.take(update);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_tick(&self) -> Option<Nanos> {
        Some(self.feed.next_cut)
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let update = self.feed.cut(tracker, FREE);
        self.model.take(update);
        self.model.is_over = true;
        Ok(())
    }
}
