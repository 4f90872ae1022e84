//! What the kernel side counts per port, as growth since the last look.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray, PerCpuHashMap},
};
use synfin_common::port_count::{Counted, PortKey, PortTotals};
use zerocopy::{IntoBytes, transmute};

use crate::{
    clock,
    input::{Nanos, PortCount},
};

/// A count that has not grown for so long makes room for another port's.
const QUIET: Nanos = 10_000_000_000;

/// The counts, and what of them was given already.
pub(super) struct PortCounts {
    /// By [`PortKey`], as plain bytes, which is what aya takes.
    map: PerCpuHashMap<MapData, [u8; size_of::<PortKey>()], u64>,
    totals: PerCpuArray<MapData, [u64; Counted::COUNT]>,
    known: HashMap<PortKey, Known>,
    /// Given of all ports together, those without room of their own included.
    given: [u64; Counted::COUNT],
}

struct Known {
    count: u64,
    grew: Nanos,
}

impl PortCounts {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let map = ebpf.take_map("PORT_COUNTS").context("the eBPF object has no map PORT_COUNTS")?;
        let totals =
            ebpf.take_map("PORT_TOTALS").context("the eBPF object has no map PORT_TOTALS")?;
        Ok(Self {
            map: map.try_into()?,
            totals: totals.try_into()?,
            known: HashMap::new(),
            given: [0; Counted::COUNT],
        })
    }

    /// What was counted since the last time. What ports had no room of their own for is given
    /// for namespace 0 and port 0.
    pub(super) fn take_new(&mut self) -> Result<Vec<PortCount>> {
        let totals = self.totals().context("cannot read the kernel side's counts")?;
        let mut new = Vec::new();
        if totals == self.given {
            return Ok(new);
        }
        let now = clock::monotonic_ns();
        let mut counted = self.given;
        for entry in self.map.iter() {
            let (key, values) = entry.context("cannot read the kernel side's counts per port")?;
            let key: PortKey = transmute!(key);
            let count = values.iter().sum();
            let known = self.known.entry(key).or_insert(Known { count: 0, grew: now });
            if count > known.count {
                let grown = count - known.count;
                *known = Known { count, grew: now };
                counted[usize::from(key.counted)] += grown;
                let PortKey { netns, port, counted } = key;
                new.push(PortCount { netns, port, counted, count: grown });
            }
        }
        self.make_room(now)?;
        // The totals were read first: a port's own count may have grown since, never the reverse.
        for (number, (counted, total)) in counted.iter_mut().zip(totals).enumerate() {
            if total > *counted {
                let number = number as u16;
                new.push(PortCount { netns: 0, port: 0, counted: number, count: total - *counted });
                *counted = total;
            }
        }
        self.given = counted;
        Ok(new)
    }

    fn totals(&self) -> Result<[u64; Counted::COUNT], MapError> {
        let mut sum = [0; Counted::COUNT];
        for &words in self.totals.get(&0, 0)?.iter() {
            let PortTotals(totals) = transmute!(words);
            sum.iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
        }
        Ok(sum)
    }

    /// What is counted between the look and the removal is in the totals.
    fn make_room(&mut self, now: Nanos) -> Result<()> {
        let quiet = self.known.extract_if(|_, known| known.grew.saturating_add(QUIET) < now);
        for (key, _) in quiet {
            let bytes = <[u8; size_of::<PortKey>()]>::try_from(key.as_bytes())?;
            match self.map.remove(&bytes) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error).context("cannot remove a port's count"),
            }
        }
        Ok(())
    }
}
