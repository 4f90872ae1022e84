//! Key handling. A key changes only the view.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Model, Sort, View};
use crate::tcp::group_by::By;

/// The keys and their meaning, for the help and the last line.
pub(crate) const KEYS: [(&str, &str); 14] = [
    ("↑ ↓ PgUp PgDn Home End", "select a row, or scroll"),
    ("Enter →", "open the selected row or connection"),
    ("Esc ←", "return to the previous view"),
    ("s S", "sort by the next or previous column"),
    ("r", "reverse the order"),
    ("g", "group by port, remote address, owner or network namespace"),
    ("t", "last minute (rates: last refresh) or since the start"),
    ("/", "show only rows with this text; Enter keeps it, Esc clears it"),
    ("space", "pause the display; tracing goes on"),
    ("d", "diagnose: what is wrong, and what to change"),
    ("c", "plain text without lines and colours, to be copied"),
    ("Ctrl-L", "redraw the screen"),
    ("?", "help"),
    ("q Ctrl-C", "quit"),
];

/// What a key requests besides a change of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Draw the whole screen again.
    Redraw,
    Quit,
}

/// Number of lines that a page key scrolls, independent of the terminal's height.
const PAGE: isize = 10;

/// Handles a key.
pub(crate) fn press(model: &mut Model, key: KeyEvent) -> Action {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Action::Quit,
            KeyCode::Char('l') => Action::Redraw,
            _ => Action::Nothing,
        };
    }
    if model.typing {
        type_filter(model, key.code);
        return Action::Nothing;
    }
    match key.code {
        KeyCode::Char('q') => return Action::Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => toggle(model, View::Help),
        KeyCode::Char('d') => toggle(model, View::Findings(0)),
        KeyCode::Char('c') => model.plain = !model.plain,
        KeyCode::Char(' ') => model.pause(!model.is_paused()),
        KeyCode::Char('t') => {
            model.totals = !model.totals;
            model.update_rows();
        }
        KeyCode::Up | KeyCode::Char('k') => move_by(model, -1),
        KeyCode::Down | KeyCode::Char('j') => move_by(model, 1),
        KeyCode::PageUp => move_by(model, -PAGE),
        KeyCode::PageDown => move_by(model, PAGE),
        KeyCode::Home => move_by(model, isize::MIN),
        KeyCode::End => move_by(model, isize::MAX),
        KeyCode::Enter | KeyCode::Right => open_selected(model),
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => back(model),
        code if model.view == View::Rows => press_in_rows(model, code),
        _ => {}
    }
    Action::Nothing
}

/// Handles keys that apply only to the table of rows.
fn press_in_rows(model: &mut Model, code: KeyCode) {
    let keys = model.columns.iter().map(|column| Sort::Column(column.key()));
    let orders: Vec<_> = [Sort::Abnormal].into_iter().chain(keys).collect();
    let at = orders.iter().position(|&order| order == model.sort).unwrap_or(0);
    let sort_by = |at: usize| orders[at % orders.len()];
    match code {
        KeyCode::Char('s') => model.sort = sort_by(at + 1),
        KeyCode::Char('S') => model.sort = sort_by(at + orders.len() - 1),
        KeyCode::Char('r') => model.reversed = !model.reversed,
        KeyCode::Char('g') => {
            model.regroup(match model.selection.by {
                By::Port => By::Remote,
                By::Remote => By::Owner,
                By::Owner => By::Netns,
                By::Netns => By::Port,
            });
        }
        KeyCode::Char('/') => model.typing = true,
        _ => return,
    }
    model.update_rows();
}

fn type_filter(model: &mut Model, code: KeyCode) {
    match code {
        KeyCode::Char(letter) => model.filter.push(letter),
        KeyCode::Backspace => {
            model.filter.pop();
        }
        KeyCode::Enter => model.typing = false,
        KeyCode::Esc => {
            model.typing = false;
            model.filter.clear();
        }
        _ => return,
    }
    model.update_rows();
}

/// Switches to the help or the findings, or returns from there.
fn toggle(model: &mut Model, view: View) {
    if std::mem::discriminant(&model.view) == std::mem::discriminant(&view) {
        return back(model);
    }
    if !matches!(model.view, View::Help | View::Findings(_)) {
        model.previous_view = model.view.clone();
    }
    model.view = view;
}

fn move_by(model: &mut Model, by: isize) {
    let moved = |at: usize, count: usize| at.saturating_add_signed(by).min(count.saturating_sub(1));
    match model.view.clone() {
        View::Rows => {
            let at = moved(model.selected_index(), model.rows.len());
            model.selected = model.rows.get(at).map(|row| row.name.clone());
        }
        View::Row(row) => {
            let count = model.connections_of(&row).len();
            model.selected_connection = moved(model.selected_connection.min(count), count);
        }
        // Drawing limits the position to the length of the text.
        View::Connection(row, at) => {
            model.view = View::Connection(row, moved(at, usize::from(u16::MAX)));
        }
        View::Findings(at) => model.view = View::Findings(moved(at, usize::from(u16::MAX))),
        View::Help => {}
    }
}

fn open_selected(model: &mut Model) {
    match model.view.clone() {
        View::Rows => {
            let at = model.selected_index();
            let Some(row) = model.rows.get(at) else { return };
            let name = row.name.clone();
            (model.selected, model.selected_connection) = (Some(name.clone()), 0);
            model.view = View::Row(name);
        }
        View::Row(row) => {
            let connections = model.connections_of(&row);
            let Some(shown) = connections.get(model.selected_connection).copied().cloned() else {
                return;
            };
            model.shown = Some(shown);
            model.view = View::Connection(row, 0);
        }
        View::Connection(..) | View::Findings(_) | View::Help => {}
    }
}

fn back(model: &mut Model) {
    model.view = match std::mem::take(&mut model.view) {
        View::Connection(row, _) => View::Row(row),
        View::Help | View::Findings(_) => std::mem::take(&mut model.previous_view),
        View::Row(_) => View::Rows,
        View::Rows => {
            // No view is above the table, so the key clears the filter.
            model.filter.clear();
            model.update_rows();
            View::Rows
        }
    };
}
