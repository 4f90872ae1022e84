//! The header: the host, the completeness of the data, and totals over all rows.

use ratatui::{
    layout::Rect,
    style::Style,
    text::{Line, Span},
};
use synfin_common::state::TcpState;

use crate::{
    findings::thresholds::EPHEMERAL_PCT,
    message::escape::escape_control,
    output::column::Value,
    screen::{history::Trend, model::Model, theme::Theme, update::SelfUsage},
    tcp::{
        close_reason::{Class, CloseReason},
        group_by::By,
        state::OPEN_STATES,
    },
    trace::time::date,
    tracker::RowSnapshot,
};

/// Minimum height of the screen in lines for the full header.
const FULL_HEADER_HEIGHT: u16 = 18;

pub(super) fn lines(model: &Model, theme: Theme, area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    if model.is_collecting() {
        return vec![title(model, theme, width)];
    }
    let mut lines = vec![title(model, theme, width), completeness(model, theme)];
    if area.height >= FULL_HEADER_HEIGHT {
        let namespaces = model.data().history.last().rows(By::Netns);
        lines.push(states(&namespaces, theme, width));
        lines.push(ports(model, &namespaces, theme));
        lines.push(rates(model, theme, width));
    }
    lines.push(reasons(model, theme, width));
    lines
}

/// The host, the grouping and the time.
fn title(model: &Model, theme: Theme, width: usize) -> Line<'static> {
    let session = &model.session;
    let grouping = match model.selection.by {
        By::Port => "by port",
        By::Remote => "by remote address",
        By::Owner => "by owner",
        By::Netns => "by namespace",
    };
    let period = if model.totals { "since the start" } else { "last minute" };
    let time = model.time().map(|time| date(session.clock.date(time))).unwrap_or_default();
    // Truncated to seconds.
    let time = time.get(..19).map(|time| time.replace('T', " ") + " UTC").unwrap_or_default();
    let host = format!(
        " {}  {}  {grouping}, {period}",
        escape_control(&session.host),
        escape_control(&session.kernel)
    );
    let room = width.saturating_sub("synfin".len() + time.len() + 1);
    Line::from(vec![
        Span::styled("synfin", theme.heading()),
        Span::raw(super::cell(&host, room, false) + " "),
        Span::raw(time),
    ])
}

/// Scans, lost events, and the usage of synfin itself.
fn completeness(model: &Model, theme: Theme) -> Line<'static> {
    let data = model.data();
    let (last, total) = (data.history.last(), data.history.total());
    let namespaces = last.scans.namespaces;
    let age = last.scans.oldest.map_or_else(
        || "not scanned yet".to_owned(),
        |scan| {
            format!(
                "scanned {} ago",
                Value::Micros(last.end.saturating_sub(scan) / 1000).to_plain()
            )
        },
    );
    let events = &total.events;
    let lost = format!("lost {}, missed {}, gaps {}", events.lost, events.missed, events.gaps);
    let is_alarming = events.lost > 0 || events.are_lower_bounds();
    let bounds = if events.are_lower_bounds() { ": counts are lower bounds" } else { "" };
    let style = if is_alarming { theme.alarm() } else { Style::new() };
    let SelfUsage { cpu_pct, bytes } = data.usage;
    let usage = format!("  synfin {cpu_pct:.1}% CPU {} MiB", bytes >> 20);
    // The usage is not measured.
    let usage = if bytes == 0 { String::new() } else { usage };
    Line::from(vec![
        Span::raw(format!("{namespaces} netns, {age}  ")),
        Span::styled(lost + bounds, style),
        Span::styled(usage, theme.dimmed()),
    ])
}

/// A bar with the states of the open connections.
fn states(rows: &[RowSnapshot], theme: Theme, width: usize) -> Line<'static> {
    const SHOWN: usize = 4;
    const FILLS: [(&str, &str); SHOWN] = [("█", "#"), ("▓", "+"), ("▒", "-"), ("░", ".")];
    let of = |state: TcpState| rows.iter().map(|row| row.stats.gauges.state(state)).sum::<u64>();
    let mut counts: Vec<_> = OPEN_STATES
        .into_iter()
        .filter(|&state| state != TcpState::TimeWait)
        .map(|state| (state.name(), of(state)))
        .collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    let length = width / 4;
    let mut spans = vec![Span::styled("STATES ", theme.heading())];
    let mut legend = Vec::new();
    let mut used = 0;
    for (&(name, count), (fill, plain)) in counts.iter().filter(|(_, count)| *count > 0).zip(FILLS)
    {
        let fill = theme.sign(fill, plain);
        let part = (length as u64 * count).div_ceil(all);
        let part = usize::try_from(part).unwrap_or(length).min(length - used);
        used += part;
        spans.push(Span::raw(fill.repeat(part)));
        legend.push(format!("{fill} {name} {count}"));
    }
    if all == 0 {
        legend.push("no connections".to_owned());
    }
    spans.push(Span::raw(format!(" {}", legend.join("  "))));
    Line::from(spans)
}

/// Resources that a busy host may exhaust: TIME_WAIT sockets, and the ephemeral ports toward the
/// destination with the highest usage.
fn ports(model: &Model, rows: &[RowSnapshot], theme: Theme) -> Line<'static> {
    let time_waits: u64 = rows.iter().map(|row| row.stats.time_wait_now).sum();
    let limit = model.session.sysctls.get("net.ipv4.tcp_max_tw_buckets");
    let limit = limit.map(|limit| format!(" (limit per namespace {})", escape_control(limit)));
    let mut spans = vec![
        Span::styled("TIME_WAIT ", theme.heading()),
        Span::raw(format!("{time_waits}{}", limit.unwrap_or_default())),
        Span::styled("  PORTS ", theme.heading()),
    ];
    // The share is unknown where connect() found no port though fewer are known to be in use.
    let share = |row: &&RowSnapshot| row.stats.ephemeral_share().unwrap_or(1.0);
    let known = rows.iter().filter(|row| row.stats.ephemeral.is_some());
    let fullest = known.max_by(|one, other| share(one).total_cmp(&share(other)));
    let ports = fullest.and_then(|row| Some((row.stats.ephemeral?, row.stats.ephemeral_share())));
    spans.extend(ports.map_or_else(
        || [Span::raw("none in use"), Span::raw("")],
        |(ports, share)| {
            let used = match share.map(|share| 100.0 * share) {
                Some(share) => format!("{share:.0} % of {} to {}", ports.ports, ports.remote),
                None => format!("connect() found none to {}", ports.remote),
            };
            let left = ports.exhausted_in.map(|seconds| match seconds {
                0.0 => ", none is left".to_owned(),
                _ => format!(", exhausted in {}", Value::forecast(seconds).to_plain()),
            });
            let style = if share.is_none_or(|share| 100.0 * share >= EPHEMERAL_PCT) {
                theme.alarm()
            } else {
                Style::new()
            };
            [Span::styled(used, style), Span::raw(left.unwrap_or_default())]
        },
    ));
    Line::from(spans)
}

/// Rates of new connections and of abnormal closes at each refresh.
fn rates(model: &Model, theme: Theme, width: usize) -> Line<'static> {
    let each = width.saturating_sub(30) / 2;
    let mut rates: Vec<_> = model.data().history.rates().rev().take(each).collect();
    rates.reverse();
    let last = rates.last().filter(|_| model.data().history.last().has_rates()).copied();
    let line = |values: Vec<f64>| super::cell(&theme.sparkline(&values), each, true);
    let number =
        |value: Option<f64>| super::cell(&Value::known(value, Value::Float).to_plain(), 6, true);
    let bad = if last.is_some_and(|last| last.bad > 0.0) { theme.alarm() } else { Style::new() };
    Line::from(vec![
        Span::styled("NEW/s", theme.heading()),
        Span::raw(format!(
            "{} {}",
            number(last.map(|last| last.new)),
            line(rates.iter().map(|rate| rate.new).collect())
        )),
        Span::styled("  BAD/s", theme.heading()),
        Span::styled(
            format!(
                "{} {}",
                number(last.map(|last| last.bad)),
                line(rates.iter().map(|rate| rate.bad).collect())
            ),
            bad,
        ),
    ])
}

/// The reasons for abnormal closes in the last minute, with their trends.
fn reasons(model: &Model, theme: Theme, width: usize) -> Line<'static> {
    let history = &model.data().history;
    let is_bad = |reason: &&CloseReason| reason.class() == Class::Abnormal;
    let all = CloseReason::ALL.iter().filter(is_bad);
    let mut counts: Vec<_> = all.map(|&reason| (reason, history.ended(reason))).collect();
    counts.retain(|(_, (count, _))| *count > 0);
    counts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    if counts.is_empty() {
        return Line::from(Span::styled(
            "WHY    no abnormal closes in the last minute",
            theme.dimmed(),
        ));
    }
    let texts = counts.iter().map(|(reason, (count, trend))| {
        let trend = match trend {
            Trend::Up => theme.sign("↑", "(rising)"),
            Trend::Level => theme.sign("→", "(level)"),
            Trend::Down => theme.sign("↓", "(falling)"),
        };
        format!("{} {count} {trend}", reason.id())
    });
    let text = texts.collect::<Vec<_>>().join("  ");
    Line::from(vec![
        Span::styled("WHY    ", theme.heading()),
        Span::styled(super::cell(&text, width.saturating_sub(7), false), theme.alarm()),
    ])
}
