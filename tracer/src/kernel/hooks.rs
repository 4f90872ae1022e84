//! The table of hooks: what each shows, and what is unknown without it.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Program, ProgramError, tp_btf::BtfTracePointLink},
};

use super::refusal::{self, Refusal};

/// A program of the kernel side on a tracepoint.
struct Hook {
    /// The program's name in the object.
    program: &'static str,
    tracepoint: &'static str,
    /// `None`: nothing works without it. Otherwise what is then unknown.
    without: Option<&'static str>,
}

const HOOKS: [Hook; 4] = [
    // First those that bring evidence for the main one, so that it is never without.
    Hook {
        program: "reset_received",
        tracepoint: "tcp_receive_reset",
        without: Some("a connect refused by a reset looks like one refused by ICMP"),
    },
    Hook {
        program: "reset_sent",
        tracepoint: "tcp_send_reset",
        without: Some(
            "data that comes after close() looks like a reset by the peer or a normal close, too little memory for sockets like a namespace that went away, and resets with no connection behind them are not counted",
        ),
    },
    Hook {
        program: "synack_retransmit",
        tracepoint: "tcp_retransmit_synack",
        without: Some(
            "SYN-ACKs that are sent again are not counted, and handshakes with one are known to the millisecond since Linux 6.7, and unmeasured before",
        ),
    },
    Hook { program: "state_change", tracepoint: "inet_sock_set_state", without: None },
];

/// An attached hook, which ends when this is dropped.
pub(super) struct Attached {
    pub(super) tracepoint: &'static str,
    pub(super) program: OwnedFd,
    _link: BtfTracePointLink,
}

/// A hook that this kernel refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The tracepoint.
    pub tracepoint: &'static str,
    /// What is unknown without it.
    pub without: &'static str,
    /// What the kernel said.
    pub error: String,
}

/// Every hook's tracepoint, and what is unknown without it; `None`: everything.
pub fn hooks() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    HOOKS.iter().map(|hook| (hook.tracepoint, hook.without))
}

/// Loads and attaches every hook.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf) -> Result<(Vec<Attached>, Vec<Refused>), Refusal> {
    let (mut attached, mut refused) = (Vec::new(), Vec::new());
    for hook in &HOOKS {
        let program = ebpf
            .program_mut(hook.program)
            .with_context(|| format!("the eBPF object has no program {}", hook.program))?;
        let tracepoint = hook.tracepoint;
        match (attach_one(program, btf, tracepoint), hook.without) {
            (Ok(hook), _) => attached.push(hook),
            (Err(error), Some(without)) => {
                refused.push(Refused { tracepoint, without, error: refusal::brief(&error) });
            }
            (Err(error), None) => return Err(Refusal::Hook { tracepoint, error }),
        }
    }
    Ok((attached, refused))
}

fn attach_one(
    program: &mut Program,
    btf: &Btf,
    tracepoint: &'static str,
) -> Result<Attached, ProgramError> {
    let program: &mut BtfTracePoint = program.try_into()?;
    program.load(tracepoint, btf)?;
    let link = program.attach()?;
    let link = program.take_link(link)?;
    let program = program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::from)?;
    Ok(Attached { tracepoint, program, _link: link })
}
