//! What programs on the kernel's own functions need of the call that they are in.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{EbpfContext, programs::FExitContext};

use crate::maps::{WITHIN, Within};

/// What this CPU is in the middle of: functions that run with softirqs off, and so are not
/// interrupted by one another.
#[inline(always)]
pub fn within() -> Option<&'static mut Within> {
    // SAFETY: the value is this CPU's own; see above.
    WITHIN.get_ptr_mut(0).map(|within| unsafe { &mut *within })
}

/// What the kernel function returned, which lies behind its arguments; 0 if it returns nothing.
#[inline(always)]
pub fn returned(ctx: &FExitContext, parameters: u8) -> u64 {
    let ctx = ctx.as_ptr();
    // To the verifier all but one are dead code, which would read what is not there.
    match parameters {
        1 => word::<1>(ctx),
        2 => word::<2>(ctx),
        3 => word::<3>(ctx),
        4 => word::<4>(ctx),
        5 => word::<5>(ctx),
        _ => 0,
    }
}

/// Word number `INDEX` of the context. In assembler: the compiler would compute the place of any of
/// them first and read once, which the verifier does not allow.
#[inline(always)]
fn word<const INDEX: usize>(ctx: *mut c_void) -> u64 {
    let word: u64;
    // SAFETY: reads what the verifier allows to be read, and nothing else.
    unsafe {
        asm!(
            "{word} = *(u64 *)({ctx} + {offset})",
            word = out(reg) word,
            ctx = in(reg) ctx,
            offset = const INDEX * size_of::<u64>(),
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    word
}
