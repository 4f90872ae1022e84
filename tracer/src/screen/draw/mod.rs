//! Draws the screen: a header, the view, and a line of key hints.

mod connection;
mod findings;
mod header;
mod help;
mod row;
mod table;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{
    model::{Model, Sort, View},
    theme::Theme,
};
use crate::message::escape::escape_control;

/// Minimum width and height of the screen in characters.
const MIN_SIZE: (u16, u16) = (40, 8);

/// Draws the whole screen.
pub(crate) fn draw(model: &Model, frame: &mut Frame<'_>) {
    let (theme, area) = (Theme::new(model.colours, model.plain), frame.area());
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        let text = format!(
            "{}x{} is too small: at least {}x{} is needed (q: quit)",
            area.width, area.height, MIN_SIZE.0, MIN_SIZE.1
        );
        let lines = textwrap::wrap(&text, usize::from(area.width.max(1)));
        lines_at(frame, area, lines.into_iter().map(|line| Line::raw(line.into_owned())).collect());
        return;
    }
    let header = header::lines(model, theme, area);
    let rows = [
        Constraint::Length(u16::try_from(header.len()).unwrap_or(u16::MAX)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [top, middle, bottom] = Layout::vertical(rows).areas(area);
    lines_at(frame, top, header);
    match &model.view {
        View::Help => help::draw(theme, frame, middle),
        _ if model.is_collecting() => {
            lines_at(frame, middle, vec![Line::raw(""), Line::raw("collecting …")]);
        }
        View::Rows => table::draw(model, theme, frame, middle),
        View::Row(name) => row::draw(model, theme, frame, middle, name),
        View::Connection(_, at) => connection::draw(model, theme, frame, middle, *at),
        View::Findings(at) => findings::draw(model, theme, frame, middle, *at),
    }
    lines_at(frame, bottom, vec![hints(model, theme)]);
}

/// Draws lines without wrapping; text that does not fit is cut off.
fn lines_at(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

/// Draws lines from line `at` on, but does not scroll past the end.
fn scrolled(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>, at: usize) {
    let last = lines.len().saturating_sub(area.height.into());
    lines_at(frame, area, lines.into_iter().skip(at.min(last)).collect());
}

/// The hints for the keys of the current view.
fn hints(model: &Model, theme: Theme) -> Line<'static> {
    if model.typing {
        let cursor = Span::styled(" ", theme.selected());
        let end = Span::styled("  Enter: keep, Esc: clear", theme.dimmed());
        return Line::from(vec![
            Span::raw(format!("show only: {}", escape_control(&model.filter))),
            cursor,
            end,
        ]);
    }
    let mut spans = Vec::new();
    let mut add = |text: String, style: Style| {
        spans.extend([Span::styled(text, style), Span::raw("  ")]);
    };
    if model.is_paused() {
        add("PAUSED".into(), theme.selected());
    }
    if model.is_over {
        add("END".into(), theme.selected());
    }
    if !model.filter.is_empty() {
        add(format!("/{}", escape_control(&model.filter)), theme.heading());
    }
    match model.data().findings.len() {
        0 => {}
        1 => add("d: 1 finding".into(), theme.alarm()),
        count => add(format!("d: {count} findings"), theme.alarm()),
    }
    let keys = match &model.view {
        View::Rows => {
            let sort = match model.sort {
                Sort::Abnormal => "bad",
                Sort::Column(key) => {
                    let sorted = model.columns.iter().find(|column| column.key() == key);
                    sorted.map_or(key, |column| column.column.info.title)
                }
            };
            let by = model.selection.by.name();
            format!(
                "? help  q quit  Enter open  / filter  s sort:{sort}  g by:{by}  t totals  space pause"
            )
        }
        View::Row(_) => "? help  q quit  Esc back  Enter open  t totals  space pause".to_owned(),
        _ => "? help  q quit  Esc back".to_owned(),
    };
    spans.push(Span::styled(keys, theme.dimmed()));
    Line::from(spans)
}

/// Formats text for a column: truncates it with an ellipsis, or pads it.
fn cell(text: &str, width: usize, align_right: bool) -> String {
    let length = text.width();
    if length > width {
        let mut shortened = String::new();
        let mut room = width.saturating_sub(1);
        for letter in text.chars() {
            let letter_width = letter.width().unwrap_or(0);
            if letter_width > room {
                break;
            }
            room -= letter_width;
            shortened.push(letter);
        }
        return shortened + &"…".repeat(width.min(1)) + &" ".repeat(room);
    }
    let space = " ".repeat(width - length);
    if align_right { space + text } else { text.to_owned() + &space }
}
