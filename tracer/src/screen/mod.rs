//! The live view of `top` in a terminal.
//!
//! The run loop puts an [`Update`](update::Update) into a mailbox at each refresh and never blocks.
//! A separate thread draws it and handles keys, which change only the view.

pub(crate) mod connection_history;
mod draw;
pub(crate) mod headless;
mod history;
mod keys;
mod model;
pub(crate) mod refresh;
mod rows;
#[cfg(feature = "live")]
pub(crate) mod self_usage;
#[cfg(not(feature = "live"))]
#[path = "self_usage_unknown.rs"]
pub(crate) mod self_usage;
mod terminal;
mod theme;
mod timeline;
pub(crate) mod update;

use std::{ops::ControlFlow, sync::Arc};

use anyhow::Result;
pub(crate) use headless::Headless;
pub(crate) use model::Options;
use tokio::sync::Notify;

use crate::{
    message::stderr::BufferedStderr,
    output::consumer::Consumer,
    screen::{
        model::Model, refresh::RefreshTimer, self_usage::Meter, terminal::Display, update::Mailbox,
    },
    trace::{session::Session, time::Nanos},
    tracker::{Change, ChangeKinds, Tracker},
};

/// The handle by which the run loop feeds the screen.
pub(crate) struct Screen {
    display: Display,
    mailbox: Mailbox,
    timer: RefreshTimer,
    meter: Meter,
    /// Warnings, printed once the terminal is restored: dropped after `display`.
    warnings: BufferedStderr,
}

impl Screen {
    /// Takes over the terminal.
    ///
    /// # Errors
    ///
    /// The terminal cannot be set up, or the thread cannot be started.
    pub(crate) fn open(options: Options) -> Result<Self> {
        let mailbox = Mailbox::default();
        Ok(Self {
            display: Display::open(Model::new(options), mailbox.clone())?,
            mailbox,
            timer: RefreshTimer::default(),
            meter: Meter::new(),
            warnings: BufferedStderr::default(),
        })
    }

    /// Notified when the user quits or the screen fails.
    pub(crate) fn closed(&self) -> Arc<Notify> {
        self.display.closed()
    }
}

impl Consumer for Screen {
    fn wanted_changes(&self) -> ChangeKinds {
        RefreshTimer::WANTED_CHANGES
    }

    fn change(&mut self, change: &Change) {
        self.timer.change(change);
    }

    fn begin(&mut self, session: &Arc<Session>) {
        self.timer = RefreshTimer::new(session);
        self.mailbox.begin(session.clone());
    }

    fn tick(&mut self, tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        if let Some(update) = self.timer.due(tracker, || self.meter.read()) {
            self.mailbox.put(update);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_tick(&self) -> Option<Nanos> {
        Some(self.timer.next_refresh)
    }

    fn warn(&mut self, text: &str) {
        self.warnings.warn(text);
    }

    fn flush(&mut self) -> Result<()> {
        self.display.failure()
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        self.mailbox.put(self.timer.update(tracker, self.meter.read()));
        self.mailbox.end();
        self.display.failure()
    }
}
