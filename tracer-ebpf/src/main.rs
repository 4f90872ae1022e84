//! The kernel side of synfin: one BPF program per hook ([`hooks`]), and two BPF iterators that scan
//! all TCP sockets and all open files ([`scan`]).
//!
//! A hook reads the socket through [`sock`] and passes one record to [`emit`]. Only [`sock`] reads
//! kernel structures, and only [`maps`] defines maps and globals.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features, reason = "the target has no stable atomic operations")]

mod count;
mod cpu_context;
mod cpu_ring;
mod emit;
mod filter;
mod handshake;
mod hooks;
mod maps;
mod port_count;
mod scan;
mod sock;
mod taken;

/// Some helpers (clock, probe reads, ring buffer) are available to programs under the GPL only
/// (`gpl_only` in `struct bpf_func_proto`).
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier would reject a program that contains this endless loop.
    loop {}
}
