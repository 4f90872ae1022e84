//! The help view: the keys, and where terms are explained.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{cell, lines_at};
use crate::screen::{keys::KEYS, theme::Theme};

/// Width of the key column in characters.
const WIDTH: usize = 24;

pub(super) fn draw(theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.width).saturating_sub(WIDTH).max(1);
    let mut lines = Vec::new();
    for (keys, what) in KEYS {
        for (index, text) in textwrap::wrap(what, room).into_iter().enumerate() {
            let keys = cell(if index == 0 { keys } else { "" }, WIDTH, false);
            let keys = Span::styled(keys, theme.heading());
            lines.push(Line::from(vec![keys, Span::raw(text.into_owned())]));
        }
    }
    lines.push(Line::raw("`synfin explain WORD` explains a column, a close reason or a state."));
    lines_at(frame, area, lines);
}
