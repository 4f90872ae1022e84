//! synfin's kernel side: one program per hook, and walks over all sockets and all open files.
//!
//! A hook reads the socket through [`sock`], and hands one record to [`emit`]; nothing else
//! touches a kernel structure or a map.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod emit;
mod filter;
mod handshake;
mod holders;
mod hooks;
mod iterate;
mod maps;
mod port_count;
mod sock;
mod survey;
mod within;

/// The kernel gives its GPL-only helpers (ktime, probe reads, ring buffer) to GPL programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: a program that could panic would hold a loop and be refused by the verifier.
    loop {}
}
