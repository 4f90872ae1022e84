//! Key handling. A key changes only the view.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::{Model, Sort, View};
use crate::tcp::group_by::By;

/// The keys and their meaning, for the help and the last line.
pub(crate) const KEYS: [(&str, &str); 14] = [
    ("↑ ↓ PgUp PgDn Home End", "choose a row, or scroll"),
    ("Enter →", "look into it: a row, one of its connections, its life"),
    ("Esc ←", "back"),
    ("s S", "sort by the next column, or the one before"),
    ("r", "the other way round"),
    ("g", "rows by port, remote address, owner or network namespace"),
    ("t", "lately (a minute; rates: the last refresh), or since the start"),
    ("/", "only rows with this text; Enter keeps it, Esc forgets it"),
    ("space", "pause what is shown; nothing is missed"),
    ("d", "diagnose: what is wrong, and what to do about it"),
    ("c", "copy: plain text, without lines and colours"),
    ("Ctrl-L", "draw all anew"),
    ("?", "this help"),
    ("q Ctrl-C", "end"),
];

/// What a key requests besides a change of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    /// Draw the whole screen again.
    Redraw,
    Quit,
}

/// Number of lines that a page key scrolls, independent of the terminal's height.
const PAGE: isize = 10;

/// Handles a key.
pub(crate) fn press(model: &mut Model, key: KeyEvent) -> Asked {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Asked::Quit,
            KeyCode::Char('l') => Asked::Redraw,
            _ => Asked::Nothing,
        };
    }
    if model.typing {
        type_filter(model, key.code);
        return Asked::Nothing;
    }
    match key.code {
        KeyCode::Char('q') => return Asked::Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => turn_to(model, View::Help),
        KeyCode::Char('d') => turn_to(model, View::Findings(0)),
        KeyCode::Char('c') => model.plain = !model.plain,
        KeyCode::Char(' ') => model.pause(!model.is_paused()),
        KeyCode::Char('t') => {
            model.totals = !model.totals;
            model.renew();
        }
        KeyCode::Up | KeyCode::Char('k') => go(model, -1),
        KeyCode::Down | KeyCode::Char('j') => go(model, 1),
        KeyCode::PageUp => go(model, -PAGE),
        KeyCode::PageDown => go(model, PAGE),
        KeyCode::Home => go(model, isize::MIN),
        KeyCode::End => go(model, isize::MAX),
        KeyCode::Enter | KeyCode::Right => look_into(model),
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => back(model),
        code if model.view == View::Rows => rows_only(model, code),
        _ => {}
    }
    Asked::Nothing
}

/// Handles keys that apply only to the table of rows.
fn rows_only(model: &mut Model, code: KeyCode) {
    let keys = model.columns.iter().map(|column| Sort::Column(column.key()));
    let orders: Vec<_> = [Sort::Trouble].into_iter().chain(keys).collect();
    let at = orders.iter().position(|&order| order == model.sort).unwrap_or(0);
    let sort_by = |at: usize| orders[at % orders.len()];
    match code {
        KeyCode::Char('s') => model.sort = sort_by(at + 1),
        KeyCode::Char('S') => model.sort = sort_by(at + orders.len() - 1),
        KeyCode::Char('r') => model.reversed = !model.reversed,
        KeyCode::Char('g') => {
            model.regroup(match model.asked.by {
                By::Port => By::Remote,
                By::Remote => By::Owner,
                By::Owner => By::Netns,
                By::Netns => By::Port,
            });
        }
        KeyCode::Char('/') => model.typing = true,
        _ => return,
    }
    model.renew();
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
    model.renew();
}

/// Switches to a view from which the user can return to the current one.
fn turn_to(model: &mut Model, view: View) {
    if std::mem::discriminant(&model.view) == std::mem::discriminant(&view) {
        return back(model);
    }
    if !matches!(model.view, View::Help | View::Findings(_)) {
        model.before = model.view.clone();
    }
    model.view = view;
}

fn go(model: &mut Model, by: isize) {
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
        // Drawing limits the position.
        View::Connection(row, at) => {
            model.view = View::Connection(row, moved(at, usize::from(u16::MAX)));
        }
        View::Findings(at) => model.view = View::Findings(moved(at, usize::from(u16::MAX))),
        View::Help => {}
    }
}

fn look_into(model: &mut Model) {
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
        View::Help | View::Findings(_) => std::mem::take(&mut model.before),
        View::Row(_) => View::Rows,
        View::Rows => {
            // The top view has nothing to return to, so the key clears the filter.
            model.filter.clear();
            model.renew();
            View::Rows
        }
    };
}
