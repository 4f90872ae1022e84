//! The view of one row: its values, handshake times, close reasons and connections.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
};

use super::{cell, lines_at};
use crate::{
    message::escape::escape_control,
    output::{column::Value, port_columns::COLUMNS, port_row::PortRow},
    screen::{connection_history::ConnectionHistory, model::Model, rows::ShownRow, theme::Theme},
    tcp::{
        close_reason::{Class, CloseReason},
        role::Role,
    },
    tracker::{LatencyHistogram, RowName, RowSnapshot},
};

/// Number of lines of the histogram and of the reasons.
const LINES: u16 = 6;

pub(super) fn draw(model: &Model, theme: Theme, frame: &mut Frame<'_>, area: Rect, name: &RowName) {
    let Some(row) = model.row(name) else {
        let text = "no connections in the last minute (t: show totals since the start)";
        return lines_at(frame, area, vec![Line::raw(""), Line::raw(text)]);
    };
    let values = row.recent_or_total(model.totals);
    let mut lines = vec![title(model, row, theme)];
    lines.extend(columns(values));
    let about = Layout::vertical([
        Constraint::Length(u16::try_from(lines.len()).unwrap_or(u16::MAX)),
        Constraint::Length(LINES + 1),
        Constraint::Fill(1),
    ]);
    let [top, middle, bottom] = about.areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(middle);
    lines_at(frame, top, lines);
    lines_at(frame, left, handshakes(&values.row.stats.counters.clean, theme, left.width.into()));
    lines_at(frame, right, reasons(model, row, theme, right.width.into()));
    lines_at(frame, bottom, connections(model, theme, bottom, name));
}

/// The row's identity, and its last minute in spans of ten seconds.
fn title(model: &Model, row: &ShownRow, theme: Theme) -> Line<'static> {
    let column = |key: &str| {
        let column = COLUMNS.iter().find(|column| column.info.key == key);
        column.map(|column| column.value(&row.total).to_plain()).filter(|text| text != "-")
    };
    let service = row.name.port.and_then(|port| model.services.name(port));
    let parts = [
        Some(Value::role(row.name.role).to_plain()),
        column("port").map(|port| format!(":{port}")),
        service.map(escape_control),
        column("remote").filter(|_| row.name.role == Role::Client),
        column("owner").map(|owner| format!("({owner})")),
    ];
    let spans = model.data().history.spans_of(model.selection.by, &row.name);
    let rate = |count: fn(&RowSnapshot) -> u64| {
        let rates = spans
            .iter()
            .map(|(seconds, row)| row.as_ref().map_or(0, count) as f64 / seconds.max(1.0));
        theme.sparkline(&rates.collect::<Vec<_>>())
    };
    let (new, bad) = (rate(RowSnapshot::new_connections), rate(RowSnapshot::bad));
    Line::from(vec![
        Span::styled(parts.into_iter().flatten().collect::<Vec<_>>().join(" "), theme.heading()),
        Span::raw(format!("   new {new} ")),
        Span::styled(format!("bad {bad}"), theme.alarm()),
    ])
}

/// The columns for which the table has no room.
fn columns(row: &PortRow) -> Vec<Line<'static>> {
    const KEYS: [&[&str]; 4] = [
        &["new_per_s", "bad_per_s", "attempts", "failed", "established", "closed", "abnormal"],
        &[
            "open",
            "preexisting",
            "pending",
            "time_wait.now",
            "time_wait.entered",
            "lifetime.p50_us",
            "idle.abnormal_p50_us",
        ],
        &[
            "accept_queue.now",
            "accept_queue.peak",
            "accept_queue.limit",
            "listener.drops",
            "half_open",
            "accept_queue.wait_p99_us",
        ],
        &["rtt.open_p50_us", "rtt.open_p99_us", "retransmitting_pct", "segments.retransmitted_pct"],
    ];
    let lines = KEYS.iter().map(|keys| {
        let columns =
            keys.iter().filter_map(|key| COLUMNS.iter().find(|column| column.info.key == *key));
        let known = columns.map(|column| (column.info.title, column.value(row)));
        let known = known.filter(|(_, value)| *value != Value::Unknown);
        let texts: Vec<_> =
            known.map(|(title, value)| format!("{title} {}", value.to_plain())).collect();
        Line::raw(texts.join("  "))
    });
    lines.filter(|line| line.width() > 0).collect()
}

/// A histogram of clean handshakes. It has a maximum number of bars, each of which covers one or
/// more powers of two.
fn handshakes(clean: &LatencyHistogram, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let quantile = |quantile| Value::known(clean.quantile(quantile), Value::Micros).to_plain();
    let heading = format!("HANDSHAKES p50 {} p99 {}", quantile(0.5), quantile(0.99));
    let bars = bars(&clean.buckets(), LINES.into());
    let max = bars.iter().map(|&(_, count)| count).max().unwrap_or(1);
    /// Width of the text beside a bar: the bound and the count.
    const TEXT: usize = 18;
    let room = width.saturating_sub(TEXT) as u64 * 8;
    let bars = bars.iter().map(|&(bound, count)| {
        let bound = cell(&Value::Micros(bound).to_plain(), 7, true);
        let length = (room * count).div_ceil(max);
        let bar = theme.bar(usize::try_from(length).unwrap_or(usize::MAX));
        Line::raw(format!("{} {bound} {bar} {count}", theme.sign("≤", "<=")))
    });
    [Line::styled(heading, theme.heading())].into_iter().chain(bars).collect()
}

/// Merges buckets by powers of two, and by several powers if there are more than `limit`.
fn bars(buckets: &[(u64, u64)], limit: u32) -> Vec<(u64, u64)> {
    let power = |us: u64| u64::BITS - us.leading_zeros();
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else { return Vec::new() };
    let (lowest, highest) = (power(first.0), power(last.0));
    let step = (highest - lowest + 1).div_ceil(limit).max(1);
    let mut bars: Vec<(u64, u64)> = (lowest..=highest)
        .step_by(step as usize)
        .map(|lowest| ((1_u64 << (lowest + step - 1)) - 1, 0))
        .collect();
    for &(us, count) in buckets {
        bars[((power(us) - lowest) / step) as usize].1 += count;
    }
    bars
}

/// The close reasons, abnormal ones first.
fn reasons(model: &Model, row: &ShownRow, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let values = row.recent_or_total(model.totals);
    let mut counts: Vec<_> = CloseReason::ALL
        .iter()
        .map(|&reason| (reason, values.row.stats.counters.ended(reason)))
        .filter(|&(_, count)| count > 0)
        .collect();
    counts.sort_by_key(|&(reason, count)| {
        (reason.class() != Class::Abnormal, std::cmp::Reverse(count))
    });
    let hidden = counts.len().saturating_sub(LINES.into());
    let more = if hidden > 0 { format!(" (and {hidden} more)") } else { String::new() };
    let heading = Line::styled(format!("CLOSED{more}"), theme.heading());
    let lines = counts.into_iter().take(LINES.into()).map(|(reason, count)| {
        let count = cell(&count.to_string(), 7, true);
        let style = if reason.class() == Class::Abnormal { theme.alarm() } else { Style::new() };
        Line::styled(
            format!("{count} {}", cell(reason.id(), width.saturating_sub(8), false)),
            style,
        )
    });
    [heading].into_iter().chain(lines).collect()
}

/// The connections of the row that are kept.
fn connections(model: &Model, theme: Theme, area: Rect, name: &RowName) -> Vec<Line<'static>> {
    let connections = model.connections_of(name);
    let height = usize::from(area.height).saturating_sub(1);
    let selected = model.selected_connection.min(connections.len().saturating_sub(1));
    let first = (selected + 1).saturating_sub(height);
    let now = model.data().history.last().end;
    /// Widths of the columns besides the endpoints: state, handshake, age, owner.
    const WIDTHS: [usize; 4] = [23, 7, 8, 10];
    let endpoint = usize::from(area.width).saturating_sub(WIDTHS.iter().sum::<usize>() + 5) / 2;
    let line = |texts: [&str; 6]| {
        let [what, local, remote, handshake, age, owner] = texts;
        [
            cell(what, WIDTHS[0], false),
            cell(local, endpoint, false),
            cell(remote, endpoint, false),
            cell(handshake, WIDTHS[1], true),
            cell(age, WIDTHS[2], true),
            cell(owner, WIDTHS[3], false),
        ]
        .join(" ")
    };
    let heading = line(["CONNECTION", "LOCAL", "REMOTE", "HS", "AGE", "OWNER"]);
    let mut lines = vec![Line::styled(heading, theme.heading())];
    for (index, history) in connections.iter().enumerate().skip(first).take(height) {
        let connection = &history.connection;
        let what = connection.state.or(connection.reason.map(CloseReason::id)).unwrap_or("-");
        let handshake = connection.handshake.and_then(|handshake| handshake.us());
        let handshake = Value::known(handshake, |us| Value::Micros(us.into())).to_plain();
        let age = connection.closed.unwrap_or(now).saturating_sub(connection.since) / 1000;
        let owner = connection.owner.as_ref().map(|owner| escape_control(&owner.label.name));
        let text = line([
            what,
            &connection.local.to_string(),
            &connection.remote.to_string(),
            &handshake,
            &Value::micros(age, connection.is_adopted()).to_plain(),
            owner.as_deref().unwrap_or("-"),
        ]);
        lines.push(Line::styled(text, style(history, index == selected, theme)));
    }
    if connections.is_empty() {
        lines.push(Line::styled("none", theme.dimmed()));
    }
    lines
}

fn style(history: &ConnectionHistory, is_selected: bool, theme: Theme) -> Style {
    match (is_selected, history.is_bad(), history.connection.state) {
        (true, _, _) => theme.selected(),
        (_, true, _) => theme.alarm(),
        (_, _, None) => theme.dimmed(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_cover_every_bucket() {
        let buckets = [(1, 2), (3, 1), (900, 5), (70_000, 1)];
        let bars = bars(&buckets, 6);
        assert!(bars.len() <= 6);
        assert_eq!(bars.iter().map(|bar| bar.1).sum::<u64>(), 9);
        for (us, _) in buckets {
            assert!(bars.iter().any(|bar| bar.0 >= us && bar.1 > 0));
        }
        assert!(super::bars(&[], 6).is_empty());
    }
}
