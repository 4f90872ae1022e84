//! The table of hooks: what each one observes, and what is unknown without it.

use std::{
    any::Any,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::Context;
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Program, ProgramError},
};

use super::refusal::{self, Refusal};
use crate::tcp::coverage::OptionalHook;

/// A group of programs that is attached either completely or not at all.
struct Hook {
    name: &'static str,
    programs: &'static [HookProgram],
    need: Need,
}

/// A program of the kernel side and its attach point.
struct HookProgram {
    /// Name of the program in the object.
    program: &'static str,
    /// Candidate attach points (tracepoint, tracepoint event or kernel function); the first that
    /// exists is used.
    at: &'static [&'static str],
}

/// The consequence of a missing hook.
#[derive(Clone, Copy)]
pub enum Need {
    /// Tracing is impossible.
    Required,
    /// This value is unknown, although every supported kernel can provide it.
    Expected(&'static str),
    /// An optional value is unknown: the hook is attached to kernel functions, which many hosts do
    /// not allow.
    Optional(OptionalHook),
}

/// The hook for resets that this host sends. Only newer kernels report all of them.
pub const RESET_SENT: &str = "tcp_send_reset";

/// The hook for state transitions.
pub const MAIN_HOOK: &str = "inet_sock_set_state";

/// The main hook attached to the tracepoint's event, for kernels that can preempt a program on the
/// tracepoint.
pub const MAIN_HOOK_BY_EVENT: &str = "the event sock:inet_sock_set_state";

/// The consequence on such a kernel if the main hook is attached to the tracepoint.
pub const PREEMPTED: &str = "the kernel can preempt the hook; transitions on the same CPU can be missed until it resumes, and count as missed";

/// The programs of the main hook.
const FIRST_PROGRAM: &str = "state_change";
const FIRST_PROGRAM_BY_EVENT: &str = "state_change_event";
const SECOND_PROGRAM: &str = "state_change_skipped";
/// For kernels that can preempt the second one.
const THIRD_PROGRAM: &str = "state_change_skipped_again";

/// Whether a program shares its hook with others.
pub(super) enum ProgramRole {
    Only,
    First,
    /// It takes the transitions for which the kernel skips those before it. Kernels that let programs on
    /// tracepoints interrupt themselves skip none.
    Later,
}

/// The function that removes handshakes from the SYN queue. The timer of newer kernels calls only
/// the inner function.
pub(super) const SYN_QUEUE_DROP: &[&str] =
    &["__inet_csk_reqsk_queue_drop", "inet_csk_reqsk_queue_drop"];

/// The event category of the main tracepoint.
const EVENTS_OF_SOCKETS: &str = "sock";

/// The event category of system calls.
const EVENTS_OF_SYSCALLS: &str = "syscalls";

macro_rules! programs {
    ($($program:tt at $at:expr),+ $(,)?) => {
        &[$(HookProgram { program: $program, at: $at }),+]
    };
}

const HOOKS: [Hook; 7] = [
    // Hooks that give evidence for the main hook come first, so that the main hook never runs
    // without them.
    Hook {
        name: "tcp_receive_reset",
        programs: programs!["reset_received" at &["tcp_receive_reset"]],
        need: Need::Expected(
            "a connection attempt refused by a reset looks like one refused by ICMP",
        ),
    },
    Hook {
        name: RESET_SENT,
        programs: programs!["reset_sent" at &[RESET_SENT]],
        need: Need::Expected(
            "data after close() looks like a reset by the peer or a normal close, a lack of socket memory looks like a removed namespace, and resets without a connection are not counted",
        ),
    },
    Hook {
        name: "tcp_retransmit_synack",
        programs: programs!["synack_retransmit" at &["tcp_retransmit_synack"]],
        need: Need::Expected(
            "retransmitted SYN-ACKs are not counted, and such handshakes are measured in milliseconds since Linux 6.7 and unmeasured before",
        ),
    },
    Hook {
        name: OptionalHook::TimeWait.name(),
        programs: programs![
            "time_wait_exit" at &["inet_twsk_free"],
            "time_wait_timer" at &["__inet_twsk_schedule"],
            "time_wait_segment" at &["tcp_timewait_state_process"],
            "time_wait_entry" at &["inet_twsk_alloc"],
        ],
        need: Need::Optional(OptionalHook::TimeWait),
    },
    Hook {
        name: OptionalHook::SynQueue.name(),
        programs: programs![
            // A function that is called between two of these must not leave its mark on the CPU.
            "synack_timer_exit" at &["reqsk_timer_handler"],
            "synack_timer_entry" at &["reqsk_timer_handler"],
            "hashdance_exit" at &["inet_csk_complete_hashdance"],
            "hashdance_entry" at &["inet_csk_complete_hashdance"],
            "syn_queue_drop" at SYN_QUEUE_DROP,
            "syn_queue_entry" at &["inet_csk_reqsk_queue_hash_add"],
        ],
        need: Need::Optional(OptionalHook::SynQueue),
    },
    Hook {
        name: OptionalHook::AcceptWait.name(),
        programs: programs!["accepted" at &["inet_csk_accept"]],
        need: Need::Optional(OptionalHook::AcceptWait),
    },
    Hook {
        name: MAIN_HOOK,
        programs: programs![
            FIRST_PROGRAM at &[MAIN_HOOK],
            SECOND_PROGRAM at &[MAIN_HOOK],
            THIRD_PROGRAM at &[MAIN_HOOK],
        ],
        need: Need::Required,
    },
];

/// The main hook for kernels that can preempt a program on the tracepoint.
const BY_EVENT: Hook = Hook {
    name: MAIN_HOOK_BY_EVENT,
    programs: programs![
        FIRST_PROGRAM_BY_EVENT at &[MAIN_HOOK],
        SECOND_PROGRAM at &[MAIN_HOOK],
        THIRD_PROGRAM at &[MAIN_HOOK],
    ],
    need: Need::Expected(PREEMPTED),
};

/// The hook on accept() for kernels that refuse programs on their functions.
const BY_SYSCALL: Hook = Hook {
    name: "syscalls:sys_exit_accept4",
    programs: programs![
        "accept4_returned" at &["sys_exit_accept4"],
        "accept_returned" at &["sys_exit_accept"],
    ],
    need: Need::Expected("waits for accept() are inferred, as without --accept-wait"),
};

/// Which hooks to attach.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    /// No optional hooks.
    pub(super) tracepoints_only: bool,
    /// Attach the main hook to the tracepoint's event where that is possible.
    pub(super) by_event: bool,
    /// Whether the kernel skips a program that is running already, so that later ones are needed.
    pub(super) skips_programs: bool,
    /// Attach to the accept system calls if accept() cannot be hooked itself.
    pub(super) accept_syscalls: Option<AcceptSyscalls>,
}

/// The hook on accept system calls.
#[derive(Clone, Copy)]
pub(super) struct AcceptSyscalls {
    /// Whether the kernel's types show the way from a descriptor to its socket.
    pub(super) are_readable: bool,
}

/// An attached hook. Dropping it detaches the hook, and its last program first: a later program without the
/// first one would take all events.
pub(super) struct Attached {
    pub(super) name: &'static str,
    pub(super) programs: Vec<AttachedProgram>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        while self.programs.pop().is_some() {}
    }
}

pub(super) struct AttachedProgram {
    name: &'static str,
    pub(super) program: OwnedFd,
    _link: Link,
}

impl AttachedProgram {
    pub(super) fn role(&self) -> ProgramRole {
        match self.name {
            FIRST_PROGRAM | FIRST_PROGRAM_BY_EVENT => ProgramRole::First,
            SECOND_PROGRAM | THIRD_PROGRAM => ProgramRole::Later,
            _ => ProgramRole::Only,
        }
    }
}

/// A hook that this kernel refused.
#[derive(Clone)]
pub struct Refused {
    /// Name of the hook.
    pub name: &'static str,
    /// The consequence of its absence.
    pub need: Need,
    /// The kernel's error.
    pub error: String,
}

/// The names that aya looks up in the kernel's types to attach the programs.
pub(super) fn kernel_types() -> impl Iterator<Item = String> {
    let all = HOOKS.iter().flat_map(|hook| hook.programs).flat_map(|program| program.at);
    all.flat_map(|at| [format!("btf_trace_{at}"), at.to_string()])
}

/// The names and needs of all hooks.
pub fn hooks() -> impl Iterator<Item = (&'static str, Need)> {
    HOOKS.iter().map(|hook| (hook.name, hook.need))
}

/// Loads and attaches every hook of this choice.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    Choice { tracepoints_only, by_event, skips_programs, accept_syscalls }: Choice,
) -> Result<(Vec<Attached>, Vec<Refused>), Refusal> {
    let (mut attached, mut refused) = (Vec::new(), Vec::new());
    for hook in &HOOKS {
        let preferred = (hook.name == MAIN_HOOK && by_event).then_some(&BY_EVENT);
        let is_accept = matches!(hook.need, Need::Optional(OptionalHook::AcceptWait));
        let fallback = accept_syscalls.filter(|_| is_accept);
        let ways = preferred.into_iter().chain([hook]).chain(fallback.map(|_| &BY_SYSCALL));
        for way in ways {
            let &Hook { name, programs, need } = way;
            let mut refuse = |error| refused.push(Refused { name, need, error });
            if name == BY_SYSCALL.name && fallback.is_some_and(|it| !it.are_readable) {
                refuse("the kernel's BTF does not show the open files of processes".into());
                continue;
            }
            if matches!(need, Need::Optional(_)) && tracepoints_only {
                refuse("disabled by --tracepoints-only".into());
                continue;
            }
            let programs = programs.iter().filter(|it| match it.program {
                THIRD_PROGRAM => skips_programs && by_event,
                SECOND_PROGRAM => skips_programs,
                _ => true,
            });
            let programs: Result<Vec<_>, _> =
                programs.map(|program| attach_one(ebpf, btf, program)).collect();
            match (programs, need) {
                (Ok(programs), _) => {
                    attached.push(Attached { name: hook.name, programs });
                    break;
                }
                (Err(Refusal::Hook { error, .. }), Need::Required) => {
                    return Err(Refusal::Hook { tracepoint: name, error });
                }
                (Err(Refusal::Hook { error, .. }), _) => refuse(refusal::brief(&error)),
                (Err(other), _) => return Err(other),
            }
        }
    }
    Ok((attached, refused))
}

fn attach_one(
    ebpf: &mut Ebpf,
    btf: &Btf,
    &HookProgram { program: name, at }: &HookProgram,
) -> Result<AttachedProgram, Refusal> {
    let program =
        ebpf.program_mut(name).with_context(|| format!("the eBPF object has no program {name}"))?;
    let mut tried = at.iter().map(|at| attach_at(program, btf, at));
    let mut result = tried.next().with_context(|| format!("{name} has no attach point"))?;
    while let (Err(ProgramError::Btf(_)), Some(next)) = (&result, tried.next()) {
        result = next;
    }
    let (program, link) = result.map_err(|error| Refusal::Hook { tracepoint: at[0], error })?;
    Ok(AttachedProgram { name, program, _link: link })
}

/// Dropping it detaches the program.
type Link = Box<dyn Any + Send>;

fn attach_at(
    program: &mut Program,
    btf: &Btf,
    at: &'static str,
) -> Result<(OwnedFd, Link), ProgramError> {
    macro_rules! attach {
        ($program:ident, load($($what:expr),*), attach($($to:expr),*)) => {{
            $program.load($($what),*)?;
            let link = $program.attach($($to),*)?;
            let link: Link = Box::new($program.take_link(link)?);
            ($program.fd()?.as_fd().try_clone_to_owned(), link)
        }};
    }
    let (fd, link) = match program {
        Program::FEntry(program) => attach!(program, load(at, btf), attach()),
        Program::FExit(program) => attach!(program, load(at, btf), attach()),
        Program::TracePoint(program) => {
            let is_syscall = at.starts_with("sys_exit_");
            let category = if is_syscall { EVENTS_OF_SYSCALLS } else { EVENTS_OF_SOCKETS };
            attach!(program, load(), attach(category, at))
        }
        other => {
            let program: &mut BtfTracePoint = other.try_into()?;
            attach!(program, load(at, btf), attach())
        }
    };
    Ok((fd.map_err(ProgramError::from)?, link))
}
