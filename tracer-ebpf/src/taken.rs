//! The transitions that the programs of the main hook took last on each CPU, by which the next program knows those
//! that none took: the kernel skips a program that is already running on the CPU.

use core::ptr::{read_volatile, write_volatile};

use synfin_common::taken::{Event, Writer};

use crate::{count::add_one, maps::TAKEN};

/// Notes that the first program takes this transition. It does so first of all: one that interrupts it before
/// is compared with an older one.
#[inline(always)]
pub fn by_first(sock: u64, states: u64) {
    if let Some(taken) = TAKEN.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's value.
        unsafe { note(&raw mut (*taken).first, sock, states) };
    }
}

/// Whether no program before this one has taken this transition, so that it has to. Notes and counts it then.
#[inline(always)]
pub fn by_later(writer: Writer, sock: u64, states: u64) -> bool {
    let Some(taken) = TAKEN.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the pointer is to this CPU's value; the programs may interrupt each other.
    unsafe {
        if is(&raw const (*taken).first, sock, states) {
            return false;
        }
        if writer == Writer::Third && is(&raw const (*taken).second, sock, states) {
            // A later socket at this address can do the same.
            write_volatile(&raw mut (*taken).second.sock, 0);
            return false;
        }
        if writer == Writer::Second {
            note(&raw mut (*taken).second, sock, states);
        }
        add_one(&raw mut (*taken).recovered);
    }
    true
}

#[inline(always)]
unsafe fn note(event: *mut Event, sock: u64, states: u64) {
    // SAFETY: the caller's pointer is valid. No other program writes this event, and what interrupts the
    // program does not run it. (The verifier lets no program make one word of a pointer and anything else.)
    unsafe {
        write_volatile(&raw mut (*event).sock, sock);
        write_volatile(&raw mut (*event).states, states);
    }
}

#[inline(always)]
unsafe fn is(event: *const Event, sock: u64, states: u64) -> bool {
    // SAFETY: the caller's pointer is valid.
    unsafe {
        read_volatile(&raw const (*event).sock) == sock
            && read_volatile(&raw const (*event).states) == states
    }
}
