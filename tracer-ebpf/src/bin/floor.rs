//! The lower bound for `cargo xtask bench`: a program on the same tracepoint that only reads the
//! clock and submits a record of 48 bytes. No tracer that streams transitions can cost less.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, map},
    maps::RingBuf,
    programs::BtfTracePointContext,
};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

#[btf_tracepoint(function = "inet_sock_set_state")]
fn floor(_: BtfTracePointContext) {
    if let Some(mut record) = EVENTS.reserve::<[u64; 6]>(0) {
        // SAFETY: the helper has no arguments.
        record.write([unsafe { bpf_ktime_get_ns() }, 0, 0, 0, 0, 0]);
        record.submit(BPF_RB_NO_WAKEUP.into());
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
