//! The rows of an interval by their ports, so that a rule sees the other rows of a port.

use std::collections::BTreeMap;

use crate::{tcp::role::Role, trace::ids::NetnsId, tracker::RowSnapshot};

/// All rows by network namespace and service port.
pub(super) struct ByPort<'a>(BTreeMap<(Option<NetnsId>, Option<u16>), Vec<&'a RowSnapshot>>);

impl<'a> ByPort<'a> {
    pub(super) fn of(rows: &'a [RowSnapshot]) -> Self {
        let mut by_port = BTreeMap::<_, Vec<_>>::new();
        for row in rows {
            let name = &row.identity.name;
            by_port.entry((name.netns, name.port)).or_default().push(row);
        }
        Self(by_port)
    }

    /// The rows of one role with the namespace and port of this row.
    pub(super) fn beside(
        &self,
        row: &RowSnapshot,
        role: Role,
    ) -> impl Iterator<Item = &'a RowSnapshot> {
        let name = &row.identity.name;
        let rows = self.0.get(&(name.netns, name.port)).into_iter().flatten();
        rows.copied().filter(move |row| row.identity.role == role)
    }
}
