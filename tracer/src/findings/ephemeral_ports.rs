//! The rule about ephemeral ports.

use std::time::Duration;

use super::{
    case::{Case, Evidence, Look, percent, span},
    thresholds::{EPHEMERAL_PCT, EPHEMERAL_SOON, LEAST},
};
use crate::{
    tcp::close_reason::CloseReason,
    tracker::{Ephemeral, RowStats},
};

pub(super) fn ports_run_out(case: &Case<'_>) -> Option<Evidence> {
    let row = case.row;
    let failed = case.ended(&[CloseReason::ConnectLocalFailure]);
    let soon = row.stats.ephemeral.and_then(|ports| ports.exhausted_in);
    let soon = soon.filter(|&seconds| seconds <= EPHEMERAL_SOON.as_secs_f64());
    let share = row.stats.ephemeral.map_or(0.0, |ports| 100.0 * ports.share());
    if failed < LEAST && soon.is_none() && share < EPHEMERAL_PCT {
        return None;
    }
    let mut seen = match (row.stats.ephemeral, row.stats.ephemeral_share()) {
        (Some(ports), Some(_)) => ports_in_use(&ports, &row.stats),
        (Some(ports), None) => format!(
            "connect() found no free port {failed} times. At the end of the interval only {} of {} \
            ports toward {} are known to be in use: either ports were freed since, or sockets hold \
            them that no connection shows (bind() without connect()), or the sockets have a smaller \
            range of their own (IP_LOCAL_PORT_RANGE)",
            ports.used, ports.ports, ports.remote
        ),
        (None, _) => {
            format!("connect() found no free port {failed} times; how many are in use is not known")
        }
    };
    if failed > 0 && row.stats.ephemeral_share().is_some() {
        seen += &format!("; connect() found none {failed} times");
    } else if let Some(seconds) = soon.filter(|&seconds| failed == 0 && seconds > 0.0) {
        seen += &format!(
            "; at this rate none will be left in {}",
            span(Duration::from_secs_f64(seconds))
        );
    }
    let is_shared = row.stats.ephemeral.is_some_and(|ports| ports.is_shared);
    let bind = if is_shared { "set IP_BIND_ADDRESS_NO_PORT before bind(), " } else { "" };
    let advice = format!(
        "reuse connections; or {bind}widen {}, connect from several addresses, or set {} to 1",
        case.sysctl("net.ipv4.ip_local_port_range"),
        case.sysctl("net.ipv4.tcp_tw_reuse")
    );
    let count = row.stats.ephemeral.map_or(failed, |ports| ports.used);
    Some(Evidence::new(count, seen, advice).look_at(Look::Listeners))
}

/// The statement about the ports in use.
fn ports_in_use(ports: &Ephemeral, stats: &RowStats) -> String {
    let from = ports.local.map(|local| format!(" from {local}")).unwrap_or_default();
    let toward = match ports.is_shared {
        true => "toward all destinations (bind() takes them before connect())".to_owned(),
        false => format!("toward {}", ports.remote),
    };
    let is_most = |sockets: u64| 2 * sockets.min(ports.used) > ports.used;
    let mostly = if is_most(stats.time_wait_now) {
        ", mostly by TIME_WAIT"
    } else if is_most(stats.scanned.fin_wait2_orphans) {
        ", mostly by FIN_WAIT2: the peer has not closed"
    } else {
        ""
    };
    let percent = percent(ports.used, ports.ports);
    format!("{} of {} ports {toward}{from} are in use ({percent}){mostly}", ports.used, ports.ports)
}
