//! Counters that the kernel side keeps per port, read as growth since the last read.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray, PerCpuHashMap},
};
use synfin_common::port_count::{PortEvent, PortKey, PortTotals};
use zerocopy::{IntoBytes, transmute};

use crate::{
    host::clock,
    trace::{counters::PortCount, ids::NetnsId, time::Nanos},
};

/// Nanoseconds without growth after which a counter makes room for another.
const QUIET: Nanos = 10_000_000_000;

/// The counters, and the parts of them already reported. A coarser counter also includes events for
/// which the finer ones had no room.
pub(super) struct PortCounts {
    ports: Counts,
    namespaces: Counts,
    totals: PerCpuArray<MapData, [u64; PortEvent::COUNT]>,
    /// Already reported, per namespace.
    given: HashMap<(NetnsId, u16), u64>,
    /// Already reported in total.
    given_in_all: [u64; PortEvent::COUNT],
}

impl PortCounts {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let totals =
            ebpf.take_map("PORT_TOTALS").context("the eBPF object has no map PORT_TOTALS")?;
        Ok(Self {
            ports: Counts::new(ebpf, "PORT_COUNTS")?,
            namespaces: Counts::new(ebpf, "NETNS_COUNTS")?,
            totals: totals.try_into()?,
            given: HashMap::new(),
            given_in_all: [0; PortEvent::COUNT],
        })
    }

    /// The growth since the last call. Events without a counter of their own are reported for port
    /// 0 of their namespace, or for namespace 0.
    pub(super) fn take_new(&mut self) -> Result<Vec<PortCount>> {
        // Coarse counters are read first, so that only the finer ones can have grown since.
        let totals = self.totals().context("cannot read the kernel side's counts")?;
        let mut new = Vec::new();
        if totals == self.given_in_all {
            return Ok(new);
        }
        let now = clock::monotonic_ns();
        let of_namespaces = self.namespaces.grown(now)?;
        for (PortKey { netns, port, event: counted }, grown) in self.ports.grown(now)? {
            *self.given.entry((netns, counted)).or_default() += grown;
            self.given_in_all[usize::from(counted)] += grown;
            new.push(PortCount { netns, port, counted, count: grown });
        }
        for (PortKey { netns, event: counted, .. }, _) in of_namespaces {
            let total =
                self.namespaces.last_counts[&PortKey { netns, port: 0, event: counted }].count;
            let given = self.given.entry((netns, counted)).or_default();
            if total > *given {
                let count = total - *given;
                *given = total;
                self.given_in_all[usize::from(counted)] += count;
                new.push(PortCount { netns, port: 0, counted, count });
            }
        }
        for (counted, (given, total)) in (0..).zip(self.given_in_all.iter_mut().zip(totals)) {
            if total > *given {
                let count = total - *given;
                *given = total;
                new.push(PortCount { netns: 0, port: 0, counted, count });
            }
        }
        // Events between the read and the removal are in the coarser counters.
        self.ports.make_room(now)?;
        for PortKey { netns, event: counted, .. } in self.namespaces.make_room(now)? {
            self.given.remove(&(netns, counted));
        }
        Ok(new)
    }

    fn totals(&self) -> Result<[u64; PortEvent::COUNT], MapError> {
        let mut sum = [0; PortEvent::COUNT];
        for &words in self.totals.get(&0, 0)?.iter() {
            let PortTotals(totals) = transmute!(words);
            sum.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
        }
        Ok(sum)
    }
}

/// A map of counters and their last known values.
struct Counts {
    /// Keyed by [`PortKey`] as plain bytes, because aya requires a plain key type.
    map: PerCpuHashMap<MapData, [u8; size_of::<PortKey>()], u64>,
    last_counts: HashMap<PortKey, LastCount>,
}

struct LastCount {
    count: u64,
    grew: Nanos,
}

impl Counts {
    fn new(ebpf: &mut Ebpf, name: &str) -> Result<Self> {
        let map = ebpf.take_map(name);
        let map = map.with_context(|| format!("the eBPF object has no map {name}"))?;
        Ok(Self { map: map.try_into()?, last_counts: HashMap::new() })
    }

    /// The counters that have grown, and by how much.
    fn grown(&mut self, now: Nanos) -> Result<Vec<(PortKey, u64)>> {
        let mut grown = Vec::new();
        for entry in &self.map {
            let (key, values) = entry.context("cannot read the kernel side's counts per port")?;
            let key: PortKey = transmute!(key);
            let count = values.iter().sum();
            let last = self.last_counts.entry(key).or_insert(LastCount { count: 0, grew: now });
            if count > last.count {
                grown.push((key, count - last.count));
                *last = LastCount { count, grew: now };
            }
        }
        Ok(grown)
    }

    /// Removes counters that have not grown for `QUIET` nanoseconds, and returns their keys.
    fn make_room(&mut self, now: Nanos) -> Result<Vec<PortKey>> {
        let quiet = self.last_counts.extract_if(|_, last| last.grew.saturating_add(QUIET) < now);
        let quiet: Vec<_> = quiet.map(|(key, _)| key).collect();
        for key in &quiet {
            let bytes = <[u8; size_of::<PortKey>()]>::try_from(key.as_bytes())?;
            match self.map.remove(&bytes) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error).context("cannot remove a port's count"),
            }
        }
        Ok(quiet)
    }
}
