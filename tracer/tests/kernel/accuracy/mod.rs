//! Accuracy scenarios: every way to open, fail and end a connection that can be produced here,
//! each in its own network namespace. They check synfin's result and the kernel's own counters.
//!
//! `UPDATE_ACCURACY=1`, which `cargo xtask accuracy` sets, stores the recordings, and the output of
//! other tools for the same connections, in `tests/accuracy`.

#[path = "../../accuracy/expected.rs"]
mod expected;
#[path = "../../accuracy/replayed.rs"]
mod replayed;

mod aborting;
mod closing;
mod deviations;
mod floods;
mod identity;
mod mptcp;
mod older;
mod opening;
mod others;
mod scrub;
mod stage;

use std::{
    collections::BTreeMap,
    env, fs, panic,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

pub(crate) use self::scrub::change_records;
use self::{
    expected::{Scenario, scenarios},
    others::{Others, ToolOutput},
    replayed::Replayed,
    stage::Stage,
};
use crate::lab;

/// The directory of recordings and of other tools' output.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/accuracy");

/// Process names that scenarios set.
const NAMES: &[&str] = &["victim", "parent"];

/// The kernel's counters about connections, by their names in `/proc/net/snmp` and `netstat`.
#[rustfmt::skip]
const COUNTERS: &[&str] = &[
    "ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets", "OutRsts",
    "TW", "TWKilled", "TWRecycled", "TCPTimeWaitOverflow",
    "ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPReqQFullDoCookies", "EmbryonicRsts",
    "SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed", "TCPDeferAcceptDrop", "TCPSynRetrans",
    "TCPFastOpenActive", "TCPFastOpenActiveFail", "TCPFastOpenPassive", "TCPFastOpenPassiveFail",
    "TCPFastOpenListenOverflow", "TCPChallengeACK", "TCPKeepAlive",
    "TCPAbortOnData", "TCPAbortOnClose", "TCPAbortOnTimeout", "TCPAbortOnMemory",
    "TCPAbortOnLinger", "TCPAbortFailed",
];

/// The number of scenarios played at a time. They mostly wait, unless the machine is slow.
fn at_a_time() -> usize {
    if lab::is_slow() { 2 } else { 4 }
}

/// Plays a scenario.
type Play = fn(&Stage);

macro_rules! plays {
    ($($module:ident: $($name:ident)*;)*) => {
        /// All scenarios that can be played, by name.
        const PLAYS: &[(&str, Play)] = &[$($((stringify!($name), $module::$name),)*)*];
    };
}

plays! {
    opening:
        active_open passive_open ipv6 mptcp last_ack_with_fin simultaneous_open
        simultaneous_open_reset self_connect fast_open_client fast_open_deferred fast_open_deferred_retransmitted fast_open_child
        fast_open_child_closed fast_open_child_reset fast_open_child_orphaned syn_cookie
        syn_cookie_timestamps repair_open repair_server no_route no_port_left listen_fails half_open_expires
        half_open_reset half_open_unreachable syn_queue_full accept_queue accept_queue_full_at_syn
        accept_queue_full_at_ack abort_on_overflow synack_retransmitted synack_retransmitted_timestamps
        syn_received_twice syn_retransmitted syn_retransmitted_timestamps deferred_accept deferred_accept_set_late wrong_syn_ack
        refused_by_rst refused_by_icmp_port refused_by_icmp_protocol host_unreachable
        net_unreachable syn_timeout cancelled abandoned connecting_socket_destroyed;
    closing:
        passive_close active_close active_close_by_server active_close_fin_with_ack half_close
        closed_twice simultaneous_close no_fin_from_the_peer left_in_fin_wait2 long_fin_timeout
        time_wait_overflow negative_linger2 negative_linger2_half_closed;
    aborting:
        data_with_ack_of_fin data_after_close data_in_fin_wait2 data_in_closing
        data_for_a_timewait_socket rst_in_established rst_in_close_wait rst_in_fin_wait1 rst_in_fin_wait2
        rst_in_closing rst_in_last_ack rst_in_time_wait rst_in_window unread_data
        unread_data_in_close_wait linger0 linger0_with_unread_data unread_data_half_closed
        linger0_half_closed disconnected listener_closed stalled retransmission_timeout
        retransmission_timeout_soft_error user_timeout zero_window keepalive keepalive_user_timeout
        orphan_in_fin_wait1 orphan_in_closing orphan_in_last_ack destroyed listener_destroyed time_wait_destroyed
        repair_close icmp_in_established process_killed;
    identity:
        closed_port old_ack_to_a_listener new_syn_in_time_wait time_wait_reused reconnected_after_refusal
        reconnected_after_disconnect equal_tuples between_namespaces fork;
    mptcp:
        mptcp_closed_by_server mptcp_unread_data mptcp_linger0 mptcp_disconnected mptcp_listener_closed
        mptcp_client_without mptcp_server_without mptcp_process_killed mptcp_join
        mptcp_subflow_removed mptcp_join_refused mptcp_older;
    floods:
        syn_flood syn_flood_with_cookies accept_queue_flood;
    older:
        older_server older_client older_bound_client older_without_listener older_close_wait
        older_time_wait;
}

/// The scenarios that begin before the trace, which they start themselves.
const OLDER: &[&str] = &[
    "mptcp_older",
    "older_server",
    "older_client",
    "older_bound_client",
    "older_without_listener",
    "older_close_wait",
    "older_time_wait",
];

#[test]
fn every_scenario_has_the_expected_result() {
    let _lab = lab::enter();
    let laboratory = Laboratory::open();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut differences = Vec::new();
        while let Some((number, scenario)) =
            (1..).zip(scenarios()).nth(next.fetch_add(1, Ordering::Relaxed))
        {
            if deviations::needs(scenario).is_some_and(lab::lacks_for_a_part) {
                continue;
            }
            if let Some((_, why)) = TOO_FAST.iter().find(|(name, _)| *name == scenario.name)
                && lab::is_slow()
            {
                lab::note(&format!("{} is not played on a slow machine: {why}", scenario.name));
                continue;
            }
            let attempt = panic::AssertUnwindSafe(|| laboratory.perform(number, scenario));
            let found = panic::catch_unwind(attempt)
                .unwrap_or_else(|_| vec!["failed, see above".to_owned()]);
            let Scenario { name, what, .. } = scenario;
            differences.extend(found.into_iter().map(|it| format!("{name} ({what}): {it}")));
        }
        differences
    };
    let differences: Vec<_> = thread::scope(|scope| {
        // The workers' notes and skips belong to this test.
        let name = || thread::current().name().unwrap_or_default().to_owned();
        let worker = |_| thread::Builder::new().name(name()).spawn_scoped(scope, work);
        let workers: Vec<_> = (0..at_a_time()).map(worker).collect();
        let workers = workers.into_iter().map(|worker| worker.expect("a worker"));
        workers.flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    laboratory.close();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// Scenarios that a slow machine cannot play in time, and why.
const TOO_FAST: &[(&str, &str)] = &[
    ("mptcp_subflow_removed", "the peer may not close the removed subflow"),
    ("mptcp_linger0", "the kernel may reset the subflow before it knows why"),
    ("older_time_wait", "a TIME_WAIT lasts for a minute, in which a trace has to start and to end"),
];

struct Laboratory {
    folder: tempfile::TempDir,
    /// The other tools, if their output is to be stored.
    others: Option<Others>,
    output: Mutex<BTreeMap<&'static str, ToolOutput>>,
}

impl Laboratory {
    fn open() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a directory"),
            others: env::var_os("UPDATE_ACCURACY").map(|_| Others::start()),
            output: Mutex::default(),
        }
    }

    /// Plays a scenario while synfin traces, and returns where synfin's result is wrong.
    fn perform(&self, number: u8, scenario: &'static Scenario) -> Vec<String> {
        let (_, play) =
            PLAYS.iter().find(|(name, _)| *name == scenario.name).expect("its function");
        let file = self.folder.path().join(scenario.name);
        let (seen, moved, recording) = lab::seen_whole(|| {
            let stage = Stage::new(number, file.clone());
            let namespaces = stage.namespaces().map(lab::Namespace::id);
            let mark = self.others.as_ref().map(Others::mark);
            if !OLDER.contains(&scenario.name) {
                stage.trace();
            }
            play(&stage);
            let moved = moved(stage.finish());
            if let (Some(others), Some(mark)) = (&self.others, mark) {
                let output = others.output_since(&mark, &stage.networks());
                self.output.lock().expect("the output").insert(scenario.name, output);
            }
            let recording = fs::read(&file).expect("the recording");
            let seen = Replayed::of(&recording);
            let namespaces = namespaces.map(|id| u32::try_from(id).expect("an inode number"));
            (seen.missed == 0, (seen, moved, scrub::scrub(&recording, &namespaces, NAMES)))
        });
        let expected = deviations::seen_here(scenario);
        let mut differences = seen.differences(&expected);
        let scrubbed = Replayed::of(&recording).differences(&expected);
        if scrubbed != differences {
            differences.push(format!("after scrubbing: {scrubbed:?}"));
        }
        let inferred = Replayed::inferred(&recording).differences(&expected);
        differences.extend(inferred.into_iter().map(|it| format!("with tracepoints only: {it}")));
        let counted = deviations::counted_here(scenario);
        if moved != counted {
            differences.push(format!("the kernel counts {moved:?}, not {counted:?}"));
        }
        if self.others.is_some() {
            let kept = Path::new(KEPT).join("recordings").join(scenario.name);
            fs::write(kept.with_extension("rec"), recording).expect("the recording can be written");
        }
        differences
    }

    /// Stores the other tools' output.
    fn close(self) {
        if self.others.is_some() {
            let output = self.output.into_inner().expect("the output");
            let text = serde_json::to_string_pretty(&output).expect("JSON");
            fs::write(PathBuf::from(KEPT).join("others.json"), text + "\n")
                .expect("a writable file");
        }
    }
}

/// The counters that are not zero, in the form of [`Scenario::kernel`].
fn moved(growth: impl Fn(&str) -> u64) -> String {
    let moved = COUNTERS.iter().map(|name| (name, growth(name))).filter(|(_, count)| *count > 0);
    moved.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_scenario_can_be_played() {
    let scenarios: Vec<_> = scenarios().map(|scenario| scenario.name).collect();
    let mut plays: Vec<_> = PLAYS.iter().map(|(name, _)| *name).collect();
    plays.sort_by_key(|name| scenarios.iter().position(|other| other == name));
    assert_eq!(plays, scenarios);
}
