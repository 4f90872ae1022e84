//! A fake kernel for tests: it has [sockets](Socket) and a clock, reports transitions, resets,
//! TIME_WAITs and scans as synfin's hooks would, and counts lost records. Its reports go to
//! a [`Receiver`]:
//!
//! - a [`Tracked`] feeds it to a tracker ([`TracedKernel`]),
//! - [`Frames`] encodes them as a recording ([`RecordedKernel`]),
//! - a `Vec<Input>` collects them.
//!
//! [`ftrace`] is a witness of what the real kernel does.

mod audit;
pub mod encode;
mod frames;
pub mod ftrace;
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

/// One second in nanoseconds.
pub const SECOND: Nanos = 1_000_000_000;
/// One millisecond in nanoseconds.
pub const MILLISECOND: Nanos = 1_000_000;

/// The network namespace of the host.
pub const HOST_NETNS: NetnsId = 4_026_531_840;
/// The network namespace of most test sockets.
pub const HERE: NetnsId = 1;
/// Another network namespace.
pub const ELSEWHERE: NetnsId = 2;

/// The flags that close() and shutdown(SHUT_RDWR) leave.
pub const SHUT: Flags = Flags::SHUT_READ.with(Flags::SHUT_WRITE);
/// The flags of a closed socket without a process.
pub const ORPHAN: Flags = SHUT.with(Flags::DEAD);

/// The default round trip of a handshake, in microseconds.
pub const ROUND_TRIP_US: u32 = 187;
