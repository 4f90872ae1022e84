//! The table of hooks: what each shows, and what is unknown without it.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, ProgramError, tp_btf::BtfTracePointLink},
};

/// A program of the kernel side on a tracepoint.
struct Hook {
    /// The program's name in the object.
    program: &'static str,
    tracepoint: &'static str,
    /// `None`: nothing works without it. Otherwise what is then unknown.
    without: Option<&'static str>,
}

const HOOKS: [Hook; 3] = [
    // First those that bring evidence for the main one, so that it is never without.
    Hook {
        program: "reset_received",
        tracepoint: "tcp_receive_reset",
        without: Some("a connect refused by a reset looks like one refused by ICMP"),
    },
    Hook {
        program: "synack_retransmit",
        tracepoint: "tcp_retransmit_synack",
        without: Some(
            "server handshakes with a retransmitted SYN-ACK are known to the millisecond since Linux 6.7, and unmeasured before",
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

/// Loads and attaches every hook.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf) -> Result<(Vec<Attached>, Vec<Refused>)> {
    let (mut attached, mut refused) = (Vec::new(), Vec::new());
    for hook in &HOOKS {
        match (attach_one(ebpf, btf, hook), hook.without) {
            (Ok(hook), _) => attached.push(hook),
            (Err(error), Some(without)) => refused.push(Refused {
                tracepoint: hook.tracepoint,
                without,
                error: format!("{error:#}"),
            }),
            (Err(error), None) => {
                return Err(error).with_context(|| {
                    format!(
                        "the kernel refuses the main hook, on the tracepoint {}",
                        hook.tracepoint
                    )
                });
            }
        }
    }
    Ok((attached, refused))
}

fn attach_one(ebpf: &mut Ebpf, btf: &Btf, hook: &Hook) -> Result<Attached> {
    let program: &mut BtfTracePoint = ebpf
        .program_mut(hook.program)
        .with_context(|| format!("the eBPF object has no program {}", hook.program))?
        .try_into()?;
    program.load(hook.tracepoint, btf)?;
    let link = program.attach()?;
    let link = program.take_link(link)?;
    let program = program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::from)?;
    Ok(Attached { tracepoint: hook.tracepoint, program, _link: link })
}
