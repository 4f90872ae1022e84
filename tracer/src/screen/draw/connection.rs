//! The view of one connection: its timeline, and the meaning of its close reason.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{cell, lines_at, scrolled};
use crate::{
    message::{escape::escape_control, wrap::wrap_with_label},
    output::column::Value,
    screen::{
        connection_history::ConnectionHistory,
        model::Model,
        theme::Theme,
        timeline::{Known, Step, What, timeline},
    },
    tcp::state,
    trace::time::{Nanos, date},
};

pub(super) fn draw(model: &Model, theme: Theme, frame: &mut Frame<'_>, area: Rect, at: usize) {
    let Some(history) = &model.shown else {
        return lines_at(
            frame,
            area,
            vec![Line::raw("this connection is no longer in the history")],
        );
    };
    let mut lines = about(model, theme, history);
    lines.push(Line::styled(
        format!("{:>10}  local{:11}remote  LOCAL STATE", "TIME", ""),
        theme.heading(),
    ));
    let begin =
        history.connection.opened.or_else(|| history.changes.first().map(|first| first.time));
    lines.extend(timeline(history).iter().map(|step| line(step, begin, theme)));
    if let Some(state) = history.connection.state {
        let since = model.data().history.last().end.saturating_sub(history.changed) / 1000;
        let since = Value::micros(since, history.is_lower_bound).to_plain();
        lines.push(Line::raw(format!("now {state}, for {since}")));
    }
    if let Some(reason) = history.connection.reason {
        lines.push(Line::raw(""));
        let info = reason.info();
        for (label, text) in [("means", info.meaning), ("to do", info.advice)] {
            let text = wrap_with_label(label, text, area.width.into());
            lines.extend(text.lines().map(|line| Line::raw(line.to_owned())));
        }
    }
    scrolled(frame, area, lines, at);
}

/// Lines that identify the connection.
fn about(model: &Model, theme: Theme, history: &ConnectionHistory) -> Vec<Line<'static>> {
    let connection = &history.connection;
    let endpoints = format!(
        "{} {} {} {}",
        Value::role(connection.role).to_plain(),
        connection.local,
        theme.sign("↔", "-"),
        connection.remote
    );
    let owner = connection.owner.as_ref().map(|owner| match owner.pid {
        Some(pid) => format!("{} (process {pid})", escape_control(&owner.label.name)),
        None => escape_control(&owner.label.name),
    });
    let since = date(model.session.clock.date(connection.since));
    let since = match connection.opened {
        Some(_) => format!("opened {since}"),
        None => format!("open since {since} or earlier"),
    };
    let owner = owner.map(|owner| format!("{owner}, ")).unwrap_or_default();
    let end = match connection.reason {
        Some(reason) => Span::styled(format!("  {}", reason.id()), close_style(history, theme)),
        None => Span::raw(""),
    };
    vec![
        Line::from(vec![Span::styled(endpoints, theme.heading()), end]),
        Line::raw(format!("{owner}namespace {}, {since}", connection.netns_inode)),
        Line::raw(""),
    ]
}

fn close_style(history: &ConnectionHistory, theme: Theme) -> Style {
    if history.is_bad() { theme.alarm() } else { Style::new() }
}

/// Width of an arrow in characters, including the segment's name.
const ARROW: usize = 22;

/// Formats a step. Steps that are not measured have dotted arrows, and their time is in brackets or
/// absent.
fn line(step: &Step, begin: Option<Nanos>, theme: Theme) -> Line<'static> {
    let offset = step.time.map(|time| {
        let begin = begin.unwrap_or(time);
        let (sign, us) = if time < begin { ("-", begin - time) } else { ("+", time - begin) };
        format!("{sign}{}", Value::Micros(us / 1000).to_plain())
    });
    let offset = match (offset, step.known) {
        (Some(offset), Known::Measured) => offset,
        (Some(offset), _) => format!("({offset})"),
        (None, _) => String::new(),
    };
    let known = match step.known {
        Known::Measured => "",
        Known::Derived => "derived",
        Known::NotObserved => "not observed",
    };
    let stroke =
        if step.known == Known::Measured { theme.sign("─", "-") } else { theme.sign("┄", ".") };
    let strokes = |name: &str| stroke.repeat((ARROW - 3).saturating_sub(name.len()) / 2);
    let style = match step.known {
        Known::Measured => Style::new(),
        _ => theme.dimmed(),
    };
    let note = [known, step.note.as_str()].into_iter().filter(|text| !text.is_empty());
    let note = note.collect::<Vec<_>>().join("; ");
    let state = step.state.map(state::title).unwrap_or_default();
    let arrow = match step.what {
        What::Sent(name) => format!("{0} {name} {0}{1}", strokes(name), theme.sign("▶", ">")),
        What::Received(name) => format!("{1}{0} {name} {0}", strokes(name), theme.sign("◀", "<")),
        What::Nothing => String::new(),
        What::Failed(reason) => {
            let sign = theme.sign("✗", "X");
            let text = format!("{offset:>10}  {sign} {}: {note}", reason.id());
            return Line::styled(text, theme.alarm());
        }
    };
    let text = format!("{offset:>10}  {}  {state:<12} {note}", cell(&arrow, ARROW, false));
    Line::styled(text, style)
}
