//! What programs on kernel functions need to know about the call that they run in: the functions
//! further up the stack, and the return value.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{EbpfContext, programs::FExitContext};

use crate::maps::{CPU_CONTEXT, CpuContext};

/// The context of this CPU. Only functions that run with softirqs disabled use it, so none of them
/// interrupts another.
#[inline(always)]
pub fn cpu_context() -> Option<&'static mut CpuContext> {
    // SAFETY: the value belongs to this CPU; see above.
    CPU_CONTEXT.get_ptr_mut(0).map(|context| unsafe { &mut *context })
}

/// The return value of a kernel function with this many parameters, after which it is in the
/// context (`kernel/bpf/trampoline.c`); 0 if the function returns nothing.
#[inline(always)]
pub fn return_value(ctx: &FExitContext, parameters: u8) -> u64 {
    let ctx = ctx.as_ptr();
    // The number is a constant to the verifier, so all other arms, which would read beyond the
    // context, are dead code.
    match parameters {
        1 => word::<1>(ctx),
        2 => word::<2>(ctx),
        3 => word::<3>(ctx),
        4 => word::<4>(ctx),
        5 => word::<5>(ctx),
        _ => 0,
    }
}

/// Word number `INDEX` of the context. In assembly, as the compiler would merge the reads of
/// [`return_value`] into one at a computed offset, which the verifier rejects.
#[inline(always)]
fn word<const INDEX: usize>(ctx: *mut c_void) -> u64 {
    let word: u64;
    // SAFETY: only reads, and only where the verifier allows it.
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
