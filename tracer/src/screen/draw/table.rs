//! The table of rows. Columns are as wide as their contents; the last one gets the remaining width.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use super::{cell, lines_at, row};
use crate::{
    output::column::{Visibility, Width},
    screen::{
        model::{Model, Sort},
        rows::{ShownRow, TableColumn},
        theme::Theme,
    },
};

/// Widths to which names are truncated, in this order, if the table is too wide. The view of a row
/// shows them in full.
const MIN_NAME_WIDTHS: [(&str, usize); 4] =
    [("owner", 10), ("why", 12), ("netns_name", 8), ("remote", 10)];

/// Minimum screen width in characters for the column of service names.
const WIDE: u16 = 100;
const SERVICE: &str = "SERVICE";
const SERVICE_WIDTH: usize = 12;

pub(super) fn draw(model: &Model, theme: Theme, frame: &mut Frame<'_>, area: Rect) {
    if model.rows.is_empty() {
        return lines_at(frame, area, vec![Line::raw(""), Line::raw(empty_text(model))]);
    }
    let [area, below] = split(model, area);
    let selected = model.selected_index();
    if let Some(row) = model.rows.get(selected).filter(|_| below.height > 0) {
        row::draw(model, theme, frame, below, &row.name);
    }
    let height = usize::from(area.height).saturating_sub(1);
    let first = (selected + 1).saturating_sub(height);
    let shown = &model.rows[first..model.rows.len().min(first + height)];
    let cells: Vec<Vec<String>> = shown.iter().map(|row| cells(model, row)).collect();
    let services = model.services_shown(area.width).then_some(SERVICE_WIDTH + 1);
    let widths = widths(model, &cells, usize::from(area.width) - services.unwrap_or(0));

    let heading = |(column, &width): (&TableColumn, &usize)| {
        let sorted = model.sort == Sort::Column(column.key());
        let title = column.column.info.title;
        let sign = if model.reversed { theme.sign("▲", "^") } else { theme.sign("▼", "v") };
        let title = if sorted { format!("{title}{sign}") } else { title.to_owned() };
        cell(&title, width, is_right(column))
    };
    let mut lines = vec![line(
        model.columns.iter().zip(&widths).map(heading).collect(),
        model.services_shown(area.width).then(|| cell(SERVICE, SERVICE_WIDTH, false)),
        theme.heading(),
    )];
    for (index, (row, texts)) in shown.iter().zip(cells).enumerate() {
        let texts = texts.iter().zip(&model.columns).zip(&widths);
        let texts = texts.map(|((text, column), &width)| cell(text, width, is_right(column)));
        let service = row.name.port.and_then(|port| model.services.name(port)).unwrap_or("");
        let service = model.services_shown(area.width).then(|| cell(service, SERVICE_WIDTH, false));
        let style = if first + index == selected {
            theme.selected()
        } else if is_bad(model, row) {
            theme.alarm()
        } else {
            Style::new()
        };
        let mark = if model.plain && first + index == selected { ">" } else { "" };
        let mut line = line(texts.collect(), service, style);
        line.spans.push(Span::raw(mark));
        lines.push(line);
    }
    lines_at(frame, area, lines);
}

/// Splits the area: if there is enough room below the rows, the selected row is shown there.
fn split(model: &Model, area: Rect) -> [Rect; 2] {
    const MIN_HEIGHT: u16 = 18;
    let table = u16::try_from(model.rows.len() + 2).unwrap_or(u16::MAX).min(area.height / 2);
    let table = if area.height >= table + MIN_HEIGHT { table } else { area.height };
    Layout::vertical([Constraint::Length(table), Constraint::Fill(1)]).areas(area)
}

impl Model {
    /// Whether the table has a column for services.
    fn services_shown(&self, width: u16) -> bool {
        width >= WIDE && !self.services.is_empty()
    }
}

fn line(cells: Vec<String>, service: Option<String>, style: Style) -> Line<'static> {
    let mut cells = cells;
    if let Some(service) = service {
        /// Index of the column, after the role and the port.
        const PLACE: usize = 2;
        cells.insert(PLACE.min(cells.len()), service);
    }
    Line::from(Span::styled(cells.join(" "), style))
}

fn is_bad(model: &Model, row: &ShownRow) -> bool {
    row.recent_or_total(model.totals).bad() > 0
}

fn cells(model: &Model, row: &ShownRow) -> Vec<String> {
    model
        .columns
        .iter()
        .map(|column| row.value(column, model.totals))
        .map(|it| it.to_plain())
        .collect()
}

/// The reason why the table is empty.
fn empty_text(model: &Model) -> &'static str {
    let filtered = model.data().history.total().events.filtered > 0;
    if !model.filter.is_empty()
        || !model.selection.reasons.is_empty()
        || !model.selection.states.is_empty()
    {
        "no row matches the filter"
    } else if filtered {
        "no TCP connection matched the filters"
    } else {
        "no TCP connections yet"
    }
}

fn is_right(column: &TableColumn) -> bool {
    matches!(
        column.column.info.visibility,
        Visibility::Table(Width::Right(_))
            | Visibility::In(_, Width::Right(_))
            | Visibility::Wide(Width::Right(_))
            | Visibility::Grouped(_, Width::Right(_))
    )
}

/// Widths of the leading columns that fit.
fn widths(model: &Model, rows: &[Vec<String>], room: usize) -> Vec<usize> {
    let columns = &model.columns;
    let needed = columns.iter().enumerate().map(|(index, column)| {
        let sign = usize::from(model.sort == Sort::Column(column.key()));
        let title = column.column.info.title.width() + sign;
        rows.iter().map(|row| row[index].width()).max().unwrap_or(0).max(title)
    });
    let mut widths: Vec<_> = needed.collect();
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + widths.len().saturating_sub(1);
    let first = columns.iter().filter(|column| column.is_first).count();
    for (name, min) in MIN_NAME_WIDTHS {
        let Some(index) = columns.iter().position(|it| it.key() == name) else {
            continue;
        };
        let excess = total(&widths[..first]).saturating_sub(room);
        widths[index] -= excess.min(widths[index].saturating_sub(min));
    }
    while widths.len() > 1 && total(&widths) > room {
        widths.pop();
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_shortened_with_an_ellipsis() {
        assert_eq!(cell("reset_by_peer", 8, false), "reset_b…");
        assert_eq!([cell("7", 3, true), cell("a", 3, false)], ["  7", "a  "]);
        // A wide character that does not fit leaves a space.
        assert_eq!(cell("日本語", 4, false), "日… ");
    }
}
