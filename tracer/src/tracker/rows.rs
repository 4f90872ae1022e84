//! The bounded table of rows.

use std::{collections::HashMap, net::SocketAddr};

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

use super::{
    owners::Label,
    row::Row,
    row_key::{LabelId, RowId, RowKey},
    time_wait_rows::LocalPort,
};
use crate::tcp::role::Role;

/// All rows. A port gets a row when it has a listener or an established connection; before that,
/// only while the table is less than half full, so that a port scan cannot displace services.
/// Destinations and owners of clients have limited shares of the table for the same reason.
///
/// When the table is full, idle rows are merged into coarser ones: first across destinations, then
/// owners, then namespaces (which may be gone), then ports.
pub(crate) struct Rows {
    ids: HashMap<RowKey, RowId, FxBuildHasher>,
    rows: Vec<Option<(RowKey, Row)>>,
    free: Vec<RowId>,
    labels: IndexSet<Label, FxBuildHasher>,
    limit: usize,
    /// Whether a running scan holds ids of idle rows, so that no row may be removed.
    is_pinned: bool,
    overflowed: u64,
    /// Lookups that found the table full since rows were last merged.
    full_lookups: u64,
}

/// Maximum number of owners that are distinguished.
const LABELS_LIMIT: usize = 4096;

/// Rows are merged at most once per this number of lookups that find the table full, because
/// merging iterates over all rows.
const MERGE_INTERVAL: u64 = 1024;

impl Rows {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            ids: HashMap::default(),
            rows: Vec::new(),
            free: Vec::new(),
            labels: IndexSet::default(),
            limit,
            is_pinned: false,
            overflowed: 0,
            full_lookups: 0,
        }
    }

    /// The label's id; `None` if there are too many labels.
    pub(crate) fn label(&mut self, label: &Label) -> Option<LabelId> {
        let index = match self.labels.get_index_of(label) {
            Some(index) => index,
            None if self.labels.len() < LABELS_LIMIT => self.labels.insert_full(label.clone()).0,
            None => return None,
        };
        LabelId::try_from(index).ok()
    }

    /// The most specific row for `key` that exists or for which there is room; the overflow row if
    /// there is none. `proven`: the port has a listener or had an established connection.
    pub(crate) fn row(&mut self, key: RowKey, proven: bool) -> RowId {
        if let Some(&id) = self.ids.get(&key) {
            return id;
        }
        if !self.has_room(key, proven) && !self.is_pinned {
            if self.full_lookups.is_multiple_of(MERGE_INTERVAL) {
                self.merge_idle();
            }
            self.full_lookups += 1;
        }
        for key in key.coarser() {
            if let Some(&id) = self.ids.get(&key) {
                return id;
            }
            if self.has_room(key, proven) {
                return self.add(key);
            }
        }
        self.overflowed += 1;
        self.other_row(key.role)
    }

    /// The local port of a TIME_WAIT in this row.
    pub(crate) fn local_port(&mut self, id: RowId, local: SocketAddr, is_bound: bool) -> LocalPort {
        let key = self.key(id);
        let is_client = key.is_some_and(|key| key.role == Role::Client);
        let source = is_client.then(|| self.get_mut(id).source(local.ip())).flatten();
        let is_own = |key: RowKey| is_client || key.port.is_none_or(|port| port == local.port());
        match key.is_none_or(is_own) {
            true => LocalPort::new(local.port(), source, is_bound),
            false => LocalPort::of_other_service(local.port()),
        }
    }

    /// Keeps all rows, including idle ones, until [`Rows::unpin`].
    pub(crate) fn pin(&mut self) {
        self.is_pinned = true;
    }

    /// Allows idle rows to be removed again.
    pub(crate) fn unpin(&mut self) {
        self.is_pinned = false;
    }

    /// The row with exactly this key; `None` if there is none.
    pub(crate) fn find(&self, key: RowKey) -> Option<RowId> {
        self.ids.get(&key).copied()
    }

    /// The row's key; `None` if the row was removed.
    pub(crate) fn key(&self, id: RowId) -> Option<RowKey> {
        self.rows.get(id as usize)?.as_ref().map(|(key, _)| *key)
    }

    /// The row and its key; `None` if the row was removed.
    pub(crate) fn get(&self, id: RowId) -> Option<&(RowKey, Row)> {
        self.rows.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: RowId) -> &mut Row {
        match &mut self.rows[id as usize] {
            Some((_, row)) => row,
            None => unreachable!("a row that is in use is never removed"),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().flatten().map(|(_, row)| row)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&RowKey, &mut Row)> {
        self.rows.iter_mut().flatten().map(|(key, row)| (&*key, row))
    }

    /// All rows, and the labels that their keys refer to.
    pub(crate) fn iter_with_labels(
        &mut self,
    ) -> (&IndexSet<Label, FxBuildHasher>, impl Iterator<Item = (RowId, &RowKey, &mut Row)>) {
        let rows = self.rows.iter_mut().enumerate();
        let rows = rows.filter_map(|(id, row)| Some((row_id(id), row.as_mut()?)));
        (&self.labels, rows.map(|(id, (key, row))| (id, &*key, row)))
    }

    /// Number of lookups that fell back to the overflow row because the table was full.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn has_room(&self, key: RowKey, proven: bool) -> bool {
        let share = match key {
            RowKey { remote: Some(_), .. } => self.limit / 2,
            RowKey { owner: Some(_), .. } => self.limit / 4 * 3,
            _ => self.limit,
        };
        self.ids.len() < if proven { share } else { share / 2 }
    }

    /// The overflow row of a role, shared by ports without a row of their own. The limit does not
    /// include overflow rows.
    pub(crate) fn other_row(&mut self, role: Role) -> RowId {
        let key = RowKey { netns: 0, role, port: None, owner: None, remote: None };
        self.find(key).unwrap_or_else(|| self.add(key))
    }

    fn add(&mut self, key: RowKey) -> RowId {
        let row = Some((key, Row::default()));
        let id = match self.free.pop() {
            Some(id) => {
                self.rows[id as usize] = row;
                id
            }
            None => {
                self.rows.push(row);
                row_id(self.rows.len() - 1)
            }
        };
        self.ids.insert(key, id);
        id
    }

    fn remove(&mut self, id: RowId) -> Option<(RowKey, Row)> {
        let (key, row) = self.rows[id as usize].take()?;
        self.ids.remove(&key);
        self.free.push(id);
        Some((key, row))
    }

    /// Merges idle rows until half of the table is free, see [`Rows`].
    fn merge_idle(&mut self) {
        let coarsen: [fn(RowKey) -> RowKey; 4] = [
            |key| RowKey { remote: None, ..key },
            |key| RowKey { remote: None, owner: None, ..key },
            |key| RowKey { remote: None, owner: None, netns: 0, ..key },
            |key| RowKey { remote: None, owner: None, netns: 0, port: None, ..key },
        ];
        for coarsen in coarsen {
            for id in 0..row_id(self.rows.len()) {
                let Some((key, row)) = &self.rows[id as usize] else { continue };
                let target = coarsen(*key);
                if target == *key || !row.is_idle() {
                    continue;
                }
                if let Some((_, row)) = self.remove(id) {
                    let target = self.find(target).unwrap_or_else(|| self.add(target));
                    self.get_mut(target).absorb(&row);
                }
            }
            if self.ids.len() < self.limit / 2 {
                return;
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the table is bounded far below 2^32 rows")]
fn row_id(index: usize) -> RowId {
    index as RowId
}
