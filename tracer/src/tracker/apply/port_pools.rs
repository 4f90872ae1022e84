//! Collects the ephemeral ports that clients hold.

use crate::{
    tcp::role::Role,
    tracker::{
        Tracker,
        port_pools::{Hold, PortHolder, PortPools},
    },
};

impl Tracker {
    /// The ephemeral ports that clients hold now, at the end of an interval.
    pub(super) fn port_pools(&mut self) -> PortPools {
        let mut pools = PortPools::default();
        for (netns, local) in self.listeners.addresses() {
            pools.add_listener(netns, local);
        }
        for (_, connection) in self.connections.iter_mut() {
            let netns = connection.netns;
            // A port that bind() took stays taken even if nothing tells the role of its connection.
            if connection.role != Role::Server
                && let Some(range) = self.namespaces.ephemeral_ports(netns)
            {
                let range = connection.ephemeral_ports(range);
                let (local, remote) = (connection.local(), connection.remote());
                let path = (local.ip(), (netns, remote.ip(), remote.port()));
                let is_bound = connection.flags.is_bound();
                let hold = Hold::Connection { is_old: connection.flags.is_newly_adopted() };
                connection.flags.set_is_newly_adopted(false);
                pools.add(path, range, PortHolder { port: local.port(), is_bound, hold });
            }
        }
        self.add_time_waits(&mut pools);
        pools
    }

    fn add_time_waits(&self, pools: &mut PortPools) {
        let expired = self.expired();
        for (netns, entry) in self.time_waits.rows.iter() {
            let hold = match entry.expiry {
                Some(expiry) if expiry.get() <= expired => continue,
                Some(expiry) => Hold::TimeWait(expiry.get()),
                None => Hold::Orphan,
            };
            let Some((key, row)) = self.rows.get(entry.row) else { continue };
            if let Some(destination) = key.destination()
                && let Some(&local) = entry.local.source().and_then(|index| row.sources.get(index))
                && let Some(range) = self.namespaces.ephemeral_ports(netns)
            {
                let (port, is_bound) = (entry.local.port(), entry.local.is_bound());
                pools.add((local, destination), range, PortHolder { port, is_bound, hold });
            }
        }
    }
}
