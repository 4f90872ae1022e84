//! A source of records for `cargo xtask bench`: programs that write the records of connections that do not
//! exist, through the same code as the hooks. The kernel runs them on a chosen CPU (`BPF_PROG_TEST_RUN`).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features, reason = "the target has no stable atomic operations")]
#![allow(dead_code, unused_imports, reason = "the hooks need the rest of these modules")]

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext};
use synfin_common::{
    event::{Closing, Established, Kind, Opening, Step},
    state::TcpState,
    taken::Writer,
};

use self::{emit::emit_with_addresses, sock::Addresses};

#[path = "../count.rs"]
mod count;
#[path = "../cpu_ring.rs"]
mod cpu_ring;
#[path = "../emit.rs"]
mod emit;
#[path = "../maps.rs"]
mod maps;
#[path = "../sock/mod.rs"]
mod sock;

/// Connections in a run, of five records each.
const CONNECTIONS: u64 = 100;

/// The listener's port.
const PORT: u16 = 7000;

const LOCAL: u32 = u32::from_ne_bytes([10, 0, 0, 1]);

/// Writes to the ring of the CPU.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn produce(ctx: RawTracePointContext) -> i32 {
    run(&ctx, Writer::First)
}

/// Writes to the ring buffer that all CPUs share.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn produce_shared(ctx: RawTracePointContext) -> i32 {
    run(&ctx, Writer::Other)
}

/// The argument is the number of the first connection. Its upper 16 bits are that of the CPU.
#[inline(always)]
fn run(ctx: &RawTracePointContext, writer: Writer) -> i32 {
    let first: u64 = ctx.arg(0);
    for number in 0..CONNECTIONS {
        connection(first.wrapping_add(number), writer);
    }
    0
}

/// A server's connection from its first record to its last.
#[inline(always)]
fn connection(number: u64, writer: Writer) {
    use TcpState::{Close, CloseWait, Established as Open, LastAck, Listen, SynRecv};

    let remote = u32::from_ne_bytes([10, (number >> 48) as u8, (number >> 16) as u8, 1]);
    let addresses =
        || Addresses { ipv6: false, local: [LOCAL.into(), 0], remote: [remote.into(), 0] };
    // SAFETY: `emit` passes memory for the record.
    unsafe {
        emit_with_addresses(Kind::Opening, writer, addresses(), |record: *mut Opening, _| {
            fill(record, Kind::Opening, number, Listen, SynRecv);
        });
        emit_with_addresses(
            Kind::Established,
            writer,
            addresses(),
            |record: *mut Established, _| {
                fill(record, Kind::Established, number, SynRecv, Open);
            },
        );
        emit_with_addresses(Kind::Step, writer, addresses(), |record: *mut Step, _| {
            fill(record, Kind::Step, number, Open, CloseWait);
        });
        emit_with_addresses(Kind::Step, writer, addresses(), |record: *mut Step, _| {
            fill(record, Kind::Step, number, CloseWait, LastAck);
        });
        emit_with_addresses(Kind::Closing, writer, addresses(), |record: *mut Closing, _| {
            fill(record, Kind::Closing, number, LastAck, Close);
        });
    }
}

/// Writes every word of a record that begins with a [`Step`], as the hooks do.
///
/// # Safety
///
/// The memory is valid for the record.
#[inline(always)]
unsafe fn fill<T>(record: *mut T, kind: Kind, number: u64, old: TcpState, new: TcpState) {
    // SAFETY: the caller guarantees it, and a record consists of words.
    unsafe {
        for word in 0..size_of::<T>() / 8 {
            record.cast::<u64>().add(word).write_volatile(0);
        }
        let step = record.cast::<Step>();
        (*step).kind = kind as u8;
        (*step).old = old.number();
        (*step).new = new.number();
        (*step).time = bpf_ktime_get_ns();
        // Each CPU has sockets of its own, which are used again.
        (*step).sock = 0xffff_8880_0000_0000 | number >> 48 << 32 | (number & 0xffff) << 11;
        (*step).netns = 1;
        (*step).local_port = PORT;
        (*step).remote_port = number as u16 | 1024;
        (*step).rtt_us = 100;
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
