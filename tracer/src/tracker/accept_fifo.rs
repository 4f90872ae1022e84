//! Infers how long connections wait for accept() from the length of their listener's accept queue.
//!
//! The queue is first in, first out, and the first record of each connection has the length that it
//! finds (`sk_ack_backlog`). So the connections in the queue are the latest ones, that many, and all
//! earlier ones have been accepted: between this record and the last one that found them waiting. This
//! needs neither a count from the start nor the connections that are older than the trace, and after a
//! lost record it is right again as soon as the lost connection has left the queue.
//!
//! Connections that close while they wait stay in the queue.
//!
//! Where the two records are far apart, the time in between is estimated by the pace at which the
//! listener was accepting while its queue was not empty.

use std::collections::VecDeque;

use crate::trace::{ids::SockId, time::Nanos};

/// The kernel reads the length of the queue just before it writes a connection's first record, and adds
/// the connection to the queue just after that. Meanwhile other CPUs can add and accept connections.
/// Neither takes longer than this: usually microseconds, but a hypervisor can suspend the CPU.
const RECORD_DELAY: Nanos = 2_000_000;

/// Maximum number of waiting connections of a listener; beyond it all are forgotten. The kernel's own
/// limit (`net.core.somaxconn`) is rarely higher.
const LIMIT: usize = 1 << 16;

/// The accept queue of one listener, as far as its connections are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct AcceptFifo {
    /// The connections that are not known to be accepted, in the order of the queue.
    waiting: VecDeque<Waiting>,
    /// Number of connections, from the front, that may have been accepted.
    uncertain: usize,
    /// Time of the last record by which all other connections were waiting.
    waiting_at: Nanos,
    last: Option<Observation>,
    pace: Pace,
    /// Number of connections so far.
    born: u64,
    /// Number of lost records that were known when the last connection was added.
    losses: u64,
    /// Since when connections have waited while none was accepted; `None` if none waits.
    unaccepted_since: Option<Nanos>,
    /// Whether connections waited already when the queue was first seen.
    is_since_a_bound: bool,
}

/// A time in which connections waited for accept() and none was accepted (CLOCK_MONOTONIC,
/// nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unaccepted {
    /// Its start.
    pub since: Nanos,
    /// Whether it may have begun before.
    pub at_least: bool,
    /// When this was last known.
    pub until: Nanos,
    /// Number of connections that waited then.
    pub waiting: u64,
}

impl Unaccepted {
    /// Its length in nanoseconds.
    pub fn length(self) -> Nanos {
        self.until.saturating_sub(self.since)
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    sock: SockId,
    born: Nanos,
    /// When it was last known to wait; only set for uncertain connections.
    waited_until: Nanos,
    /// When it probably was accepted; only set for uncertain connections.
    estimate: Option<Nanos>,
}

/// A length of the queue.
#[derive(Clone, Copy, Debug)]
struct Observation {
    time: Nanos,
    depth: u64,
    /// Number of connections that began before it.
    born: u64,
    /// Number of connections that were certainly added before it.
    added: u64,
}

/// The recent pace of accept() while connections were waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// The latest times from one accept to the next.
    recent: [Nanos; Self::RECENT],
    samples: usize,
    /// The usual one of them: their mean without pauses.
    usual: f64,
    /// The last accepts since the queue was empty: when, and how many.
    last: Option<(Nanos, u64)>,
}

impl Pace {
    const RECENT: usize = 16;

    /// How much longer than the median a time is that counts as a pause.
    const PAUSE: u64 = 4;

    /// Adds accepts between two times. Each began and ended with connections in the queue.
    fn add(&mut self, accepts: u64, (after, by): (Nanos, Nanos)) {
        if accepts == 0 {
            return;
        }
        let middle = after.midpoint(by);
        let last = self.last.replace((middle, accepts));
        let sample = match (last, accepts) {
            // From the middle of the last ones.
            (Some((last, count)), 1) => middle.saturating_sub(last) * 2 / (1 + count),
            (None, 1) => return,
            _ => by.saturating_sub(after) / accepts,
        };
        self.recent[self.samples % Self::RECENT] = sample;
        self.samples += 1;
        if self.samples < Self::RECENT || self.samples.is_multiple_of(Self::RECENT / 4) {
            self.usual = self.usual();
        }
    }

    fn usual(&self) -> f64 {
        let mut sorted = self.recent;
        let sorted = &mut sorted[..self.samples.min(Self::RECENT)];
        sorted.sort_unstable();
        let pause = sorted[sorted.len() / 2].saturating_mul(Self::PAUSE);
        let usual = sorted.partition_point(|&sample| sample <= pause);
        sorted[..usual].iter().sum::<Nanos>() as f64 / usual as f64
    }

    /// When the connection with this index, of `count`, was probably accepted between two times;
    /// `has_more` says whether others were waiting throughout.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and less than the time between both"
    )]
    fn estimate(
        &self,
        (index, count): (usize, usize),
        (after, by): (Nanos, Nanos),
        has_more: bool,
    ) -> Option<Nanos> {
        let span = by.saturating_sub(after) as f64;
        let evenly = (index as f64 + 0.5) * span / count as f64;
        if self.samples == 0 {
            return has_more.then(|| after.saturating_add(evenly as Nanos));
        }
        let since_last = self.last.map(|(last, _)| after.saturating_sub(last) as f64);
        let offset = match since_last {
            // A pause has ended.
            Some(since) if has_more && since > Self::PAUSE as f64 * self.usual => {
                evenly.max(span - ((count - index) as f64 - 0.5) * self.usual)
            }
            _ if has_more => evenly,
            Some(since) => evenly.min(index as f64 * self.usual + (self.usual - since).max(0.0)),
            None => evenly.min((index as f64 + 0.5) * self.usual),
        };
        Some(after.saturating_add(offset as Nanos))
    }
}

/// A connection that accept() took between two times (CLOCK_MONOTONIC, nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferredAccept {
    /// The connection.
    pub sock: SockId,
    /// Time of its first transition.
    pub born: Nanos,
    /// When it was last known to wait.
    pub after: Nanos,
    /// When it was first known to be accepted.
    pub by: Nanos,
    /// When it was probably accepted; `None` if nothing tells where between the two that was.
    pub at: Option<Nanos>,
}

/// When a connection certainly waited that was in the queue by a record of this time.
fn waited_until(time: Nanos, born: Nanos) -> Nanos {
    time.saturating_sub(RECORD_DELAY).max(born)
}

impl InferredAccept {
    fn by(self, time: Nanos) -> Self {
        let by = time.max(self.after);
        let is_close = (self.after - self.born).saturating_mul(2) >= by - self.born;
        let middle = is_close.then(|| self.after.midpoint(by));
        let at = self.at.or(middle).map(|at| at.clamp(self.after, by));
        Self { by, at, ..self }
    }
}

impl AcceptFifo {
    /// Adds a new connection that finds this many others in the queue. `losses` is the number of lost
    /// records: if it has grown, the known connections may not be all, and are forgotten.
    pub(crate) fn add(
        &mut self,
        sock: SockId,
        (time, depth): (Nanos, u32),
        losses: u64,
        accepted: impl FnMut(InferredAccept),
    ) {
        let depth = u64::from(depth);
        let is_more_than_all =
            self.last.is_some_and(|last| depth > last.depth.saturating_add(self.born - last.added));
        if losses != self.losses || is_more_than_all || self.waiting.len() >= LIMIT {
            self.clear();
            self.losses = losses;
        }
        // Records of different CPUs can be slightly out of order.
        let time = self.waiting.back().map_or(time, |last| time.max(last.born));
        let time = time.max(self.waiting_at);
        self.observe(time, depth, accepted);
        self.waiting.push_back(Waiting { sock, born: time, waited_until: 0, estimate: None });
        if self.unaccepted_since.is_none() {
            (self.unaccepted_since, self.is_since_a_bound) = (Some(time), false);
        }
        self.born += 1;
    }

    /// A scan found this many connections in the queue. If a new connection was added since, it has
    /// shown more.
    pub(crate) fn on_scan(
        &mut self,
        (time, depth): (Nanos, u32),
        losses: u64,
        accepted: impl FnMut(InferredAccept),
    ) {
        if losses != self.losses {
            self.clear();
            self.losses = losses;
        }
        let is_latest = self.waiting.back().is_none_or(|last| last.born <= time);
        if is_latest && self.waiting_at <= time {
            self.observe(time, depth.into(), accepted);
        }
    }

    fn observe(&mut self, time: Nanos, depth: u64, accepted: impl FnMut(InferredAccept)) {
        let old = |of: &Waiting| of.born.saturating_add(RECORD_DELAY) <= time;
        let recent = self.waiting.len() - self.waiting.partition_point(old);
        let depth_here = usize::try_from(depth).unwrap_or(usize::MAX);
        let known_waiting_from = self.waiting.len().saturating_sub(depth_here);
        let accepted_before = (self.waiting.len() - recent).saturating_sub(depth_here);
        self.keep_waiting(known_waiting_from, time, depth > 0);
        let accepts =
            self.last.map(|last| (last.depth + self.born - last.born).saturating_sub(depth));
        match self.last.zip(accepts) {
            Some((last, accepts)) if depth > 0 => self.pace.add(accepts, (last.time, time)),
            _ => self.pace.last = None,
        }
        if depth == 0 {
            self.unaccepted_since = None;
        } else if accepts != Some(0) || self.unaccepted_since.is_none() {
            (self.unaccepted_since, self.is_since_a_bound) = (Some(time), true);
        }
        self.take(accepted_before, time, accepted);
        let (born, added) = (self.born, self.born - recent as u64);
        self.last = Some(Observation { time, depth, born, added });
    }

    /// The time in which none of the waiting connections was accepted; `None` if none waits.
    pub(crate) fn unaccepted(&self) -> Option<Unaccepted> {
        let since = self.unaccepted_since?;
        let until = self.last.map_or(since, |last| last.time.max(since));
        let waiting = self.last.map_or(0, |last| last.depth + self.born - last.born);
        Some(Unaccepted { since, at_least: self.is_since_a_bound, until, waiting })
    }

    /// A new connection may have entered this queue or another one of the port.
    pub(crate) fn on_unknown_birth(&mut self, time: Nanos) {
        if self.unaccepted_since.is_some() {
            (self.unaccepted_since, self.is_since_a_bound) = (Some(time), true);
        }
    }

    /// A process has acted on a connection, so that it and those before it had been accepted.
    pub(crate) fn on_act(
        &mut self,
        (sock, born): (SockId, Nanos),
        time: Nanos,
        mut accepted: impl FnMut(InferredAccept),
    ) {
        let Some(place) = self.place(sock, born) else {
            return;
        };
        let born = self.waiting[place].born;
        // A connection that is hardly older may have been added later.
        self.estimate(place + 1, time, false);
        let earlier = self.waiting.iter().take(place);
        let earlier = earlier.take_while(|of| of.born.saturating_add(RECORD_DELAY) <= born).count();
        self.take(earlier, time, &mut accepted);
        if let Some(found) = self.remove(place - earlier) {
            self.on_unknown_birth(time);
            accepted(found.by(time));
        }
    }

    /// Removes a connection that the kernel did not add to the queue after all.
    pub(crate) fn discard(&mut self, sock: SockId, born: Nanos) {
        let Some(place) = self.place(sock, born) else {
            return;
        };
        self.remove(place);
        let later = (self.waiting.len() - place) as u64;
        if let Some(last) = &mut self.last
            && later >= self.born - last.born
        {
            // It counts as born before that observation.
            last.born -= 1;
            last.added = last.added.min(last.born);
        }
        self.born -= 1;
    }

    /// Forgets all connections.
    pub(crate) fn clear(&mut self) {
        *self = Self { losses: self.losses, ..Self::default() };
    }

    /// The index of a connection.
    fn place(&self, sock: SockId, born: Nanos) -> Option<usize> {
        let from = self.waiting.partition_point(|of| of.born < born);
        let mut later = self.waiting.iter().skip(from);
        // It can be noted as slightly later, see `add`.
        let mut same_time =
            later.by_ref().take_while(|of| of.born <= born.saturating_add(RECORD_DELAY));
        same_time.position(|of| of.sock == sock).map(|index| from + index)
    }

    /// Notes that the connections from this index on are waiting, and that those before may have been
    /// accepted.
    fn keep_waiting(&mut self, from: usize, time: Nanos, has_more: bool) {
        self.estimate(from, time, has_more);
        self.uncertain = from;
        self.waiting_at = time;
    }

    /// Estimates when the connections before this index were accepted that were waiting so far.
    fn estimate(&mut self, end: usize, by: Nanos, has_more: bool) {
        let begin = self.uncertain.min(end);
        for (index, of) in self.waiting.range_mut(begin..end).enumerate() {
            of.waited_until = waited_until(self.waiting_at, of.born);
            let (place, after) = ((index, end - begin), self.waiting_at.max(of.born));
            of.estimate = self.pace.estimate(place, (after, by), has_more);
        }
    }

    /// Takes this many connections from the front, which had been accepted at this time.
    fn take(&mut self, count: usize, by: Nanos, mut accepted: impl FnMut(InferredAccept)) {
        for _ in 0..count {
            if let Some(found) = self.remove(0) {
                accepted(found.by(by));
            }
        }
    }

    /// Removes a connection, whose acceptance has no upper bound yet.
    fn remove(&mut self, place: usize) -> Option<InferredAccept> {
        let Waiting { sock, born, waited_until, estimate } = self.waiting.remove(place)?;
        let after = if place < self.uncertain {
            self.uncertain -= 1;
            waited_until
        } else {
            self::waited_until(self.waiting_at, born)
        };
        Some(InferredAccept { sock, born, after, by: Nanos::MAX, at: estimate })
    }
}
