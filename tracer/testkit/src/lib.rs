//! A fake kernel for tests: it has [sockets](Socket) and a clock, reports transitions, resets,
//! TIME_WAITs and scans as synfin's hooks would, and counts what it loses. What it reports goes to
//! a [`Receiver`]:
//!
//! - a [`Tracked`] feeds it to a tracker ([`TracedKernel`]),
//! - [`Frames`] encodes it as a recording would hold it ([`RecordedKernel`]),
//! - a `Vec<Input>` keeps it.

mod audit;
pub mod encode;
mod frames;
mod kernel;
pub mod sample;
mod socket;
mod tracked;

pub use audit::AuditedTracker;
pub use frames::{Frames, RecordedKernel, recorded, recording};
pub use kernel::{FakeKernel, Receiver, is_record};
pub use socket::{Socket, address, closing, next_states, socket_id};
use synfin::trace::{ids::NetnsId, time::Nanos};
use synfin_common::event::Flags;
pub use tracked::{TracedKernel, Tracked, all_hooks};

/// A second, in the unit of all times.
pub const SECOND: Nanos = 1_000_000_000;
/// A millisecond, in the unit of all times.
pub const MILLISECOND: Nanos = 1_000_000;

/// The network namespace of the host.
pub const HOST_NETNS: NetnsId = 4_026_531_840;
/// The network namespace of most sockets.
pub const HERE: NetnsId = 1;
/// Another network namespace.
pub const ELSEWHERE: NetnsId = 2;

/// What close() and shutdown(SHUT_RDWR) leave.
pub const SHUT: Flags = Flags::SHUT_READ.with(Flags::SHUT_WRITE);
/// A socket that is closed, and that no process holds any more.
pub const ORPHAN: Flags = SHUT.with(Flags::DEAD);

/// The round trip that a handshake takes unless a test says otherwise, microseconds.
pub const ROUND_TRIP_US: u32 = 187;
