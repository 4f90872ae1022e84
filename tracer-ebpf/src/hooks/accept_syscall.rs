//! `syscalls:sys_exit_accept4` and `sys_exit_accept`: an accept system call returned a descriptor. An
//! alternative to the program on `inet_csk_accept` for kernels that refuse it. While any system call is
//! traced, all of them take a slower path, so the user must ask for it.

use aya_ebpf::{
    EbpfContext, helpers::bpf_ktime_get_ns, macros::tracepoint, programs::TracePointContext,
};
use synfin_common::{
    event::{Accepted, Kind},
    taken::Writer,
};

use crate::{
    emit::{self, count_filtered},
    filter,
    sock::UntypedFile,
};

/// The context of such a program (`kernel/trace/trace_syscalls.c:perf_call_bpf_exit`).
#[repr(C)]
struct SyscallExit {
    common: u64,
    number: u64,
    result: i64,
}

#[tracepoint(category = "syscalls", name = "sys_exit_accept4")]
fn accept4_returned(ctx: TracePointContext) -> u32 {
    returned(&ctx)
}

#[tracepoint(category = "syscalls", name = "sys_exit_accept")]
fn accept_returned(ctx: TracePointContext) -> u32 {
    returned(&ctx)
}

#[inline(always)]
fn returned(ctx: &TracePointContext) -> u32 {
    let exit = ctx.as_ptr().cast_const().cast::<SyscallExit>();
    // SAFETY: the kernel passes this structure, and the verifier checks the access.
    let descriptor = unsafe { core::ptr::read_volatile(&raw const (*exit).result) };
    if descriptor < 0 || descriptor > i64::from(i32::MAX) {
        return 0;
    }
    let Some(sock) = UntypedFile::of_current_process(descriptor as u64).tcp_socket() else {
        return 0;
    };
    if !filter::admits_untyped(sock) {
        count_filtered(Kind::Accepted, Writer::Other);
        return 0;
    }
    let sock = sock.address();
    emit::emit(Kind::Accepted, Writer::Other, |record: *mut Accepted| {
        // SAFETY: the pointer is the ring buffer's memory for the record.
        unsafe {
            record.write(Accepted {
                kind: Kind::Accepted as u8,
                reserved: [0; 7],
                time: bpf_ktime_get_ns(),
                sock,
            });
        }
    });
    0
}
