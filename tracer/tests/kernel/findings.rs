//! `diagnose`: findings that depend on times, what is below the thresholds, and exit statuses. All
//! others are in `situations`.

use std::{
    fs::File,
    io::{BufReader, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use nix::libc;
use serde_json::Value;
use synfin::{
    findings::thresholds::{IDLE, LEAST},
    trace::{
        recording::{Frame, Reader, Recorder},
        wire::Record,
    },
    tracker::LONG,
};
use synfin_common::state::TcpState;

use crate::{
    accuracy::change_records,
    lab::{self, Namespace, Pair, Synfin, Wire, reset, set_option, wait_for_state},
};

/// More than the threshold for a pattern.
const MANY: usize = 8;

/// As few connections as can be a pattern.
const FEW: usize = LEAST as usize;

/// A recording of these namespaces whose times a test can change.
struct Recorded(Vec<Frame>);

impl Recorded {
    fn of<T>(namespaces: [&Namespace; 2], act: impl FnOnce() -> T) -> (Self, T) {
        let (_folder, path) = lab::recording_file();
        let synfin = Synfin::watch(["record", &path, "-N", &lab::ids(namespaces)]);
        let done = act();
        synfin.finish();
        let frames = Reader::new(BufReader::new(File::open(path).expect("the recording")))
            .expect("a recording");
        (Self(frames.map(|frame| frame.expect("a whole recording")).collect()), done)
    }

    /// The recording, followed by this time without an event.
    fn and_later(&self, time: Duration) -> Self {
        let last =
            |frame: &Frame| if let Frame::Tick(tick) = frame { Some(tick.clone()) } else { None };
        let mut tick = self.0.iter().rev().find_map(last).expect("a tick");
        tick.time += u64::try_from(time.as_nanos()).expect("a time");
        Self([&self.0[..], &[Frame::Tick(tick)]].concat())
    }

    /// The same with connections that were idle for this much longer when they ended.
    fn with_longer_idle(&self, time: Duration) -> Self {
        let change_frame = |frame: &Frame| match frame {
            Frame::Events(batch) => {
                let batch = change_records(batch, |record| {
                    if let Record::Closing(end, _) = record {
                        end.idle_ms += time.as_millis() as u32;
                    }
                });
                Frame::Events(batch.into())
            }
            other => other.clone(),
        };
        Self(self.0.iter().map(change_frame).collect())
    }
}

/// The findings of a run.
struct Found(Vec<Value>);

impl Found {
    fn in_recording(recorded: &Recorded) -> Self {
        let (_folder, path) = lab::recording_file();
        let mut recorder =
            Recorder::new(File::create(&path).expect("a file")).expect("a recording");
        recorded.0.iter().for_each(|frame| recorder.write(frame).expect("a frame"));
        Self(Synfin::run(["diagnose", "-o", "json", "--from", &path]).findings())
    }

    #[track_caller]
    fn is_none(&self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }

    /// Checks that this is the only finding.
    #[track_caller]
    fn is_only(&self, id: &str, role: &str, port: u16) -> &Value {
        let found: Vec<_> = self.0.iter().map(|it| (&it["id"], &it["role"], &it["port"])).collect();
        assert_eq!(found, [(&id.into(), &role.into(), &port.into())], "{:#?}", self.0);
        &self.0[0]
    }

    #[track_caller]
    fn says(&self, id: &str, parts: &[&str]) {
        let finding = self.0.iter().find(|it| it["id"] == id);
        let finding = finding.unwrap_or_else(|| panic!("no {id} in {:#?}", self.0));
        for part in parts {
            let said = ["seen", "affects", "knob", "command"].map(|key| finding[key].to_string());
            let printed = said.join(" ");
            assert!(printed.contains(part), "no {part:?} in {printed}");
        }
    }
}

#[test]
fn finds_connections_that_stay_in_close_wait() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let at = SocketAddr::from((Wire::FAR4, 9504));
    let listener = wire.far.listen(at);
    let (recorded, leaked) = Recorded::of([&wire.far, &wire.far], || {
        wire.pairs(&listener, at, MANY).map(Pair::leak_server).collect::<Vec<_>>()
    });
    Found::in_recording(&recorded.and_later(LONG / 2)).is_none();
    let found = Found::in_recording(&recorded.and_later(LONG));
    found.is_only("close_wait_leak", "server", at.port());
    let whose = format!("(process {})", std::process::id());
    found.says("close_wait_leak", &["8 connections are in CLOSE_WAIT", &whose]);
    drop(leaked);
}

#[test]
fn finds_connections_that_are_dropped_while_idle() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let at = SocketAddr::from((Wire::FAR4, 9507));
    let listener = wire.far.listen(at);
    let (recorded, ()) = Recorded::of([&wire.near, &wire.near], || {
        let mut pairs: Vec<_> = wire.pairs(&listener, at, MANY).collect();
        for pair in &mut pairs {
            pair.send(b"question");
            pair.answer(b"answer");
        }
        // From here on the path drops their packets.
        wire.far.filter("forgotten", &format!("tcp dport {} drop", at.port()));
        for pair in &mut pairs {
            set_option(&pair.client, libc::TCP_USER_TIMEOUT, 500);
            pair.client.write_all(b"question").expect("the data is sent");
        }
        for pair in &mut pairs {
            pair.client.read(&mut [0]).expect_err("it times out");
        }
    });
    let found = Found::in_recording(&recorded.with_longer_idle(IDLE / 2));
    found.is_only("connections_time_out", "client", at.port());
    // The time of the retransmissions does not count.
    let found = Found::in_recording(&recorded.with_longer_idle(IDLE + Duration::from_secs(1)));
    found.is_only("idle_dropped", "client", at.port());
    found.says("idle_dropped", &["8 connections ended", "tcp_keepalive_time"]);
}

/// Checks of a load balancer must not hide resets of connections in use.
#[test]
fn two_kinds_of_resets_are_two_findings() {
    let at = SocketAddr::from((Wire::FAR4, 9503));
    let _lab = lab::enter();
    let wire = Wire::new();
    let listener = wire.far.listen(at);
    let (recorded, ()) = Recorded::of([&wire.far, &wire.far], || {
        for (number, mut pair) in wire.pairs(&listener, at, 8 * FEW).enumerate() {
            if number < FEW {
                pair.send(b"question");
            }
            let Pair { client, server } = pair;
            reset(client);
            wait_for_state(&server, TcpState::Close);
        }
    });
    let found = Found::in_recording(&recorded);
    let ids: Vec<_> = found.0.iter().map(|finding| &finding["id"]).collect();
    assert_eq!(ids, ["reset_by_peer", "health_checks"], "{:#?}", found.0);
    found.says("reset_by_peer", &["3 of 24 connections were reset by the peer"]);
}

#[test]
fn what_is_below_the_thresholds_is_said() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let synfin = Synfin::watch(["diagnose", "-N", &lab::ids([&wire.near]), "--for", "1h"]);
    for _ in 1..FEW {
        wire.near.connect((Wire::FAR4, 9501)).expect_err("no listener");
    }
    let printed = synfin.finish().stdout;
    let below = "nothing above the thresholds: 2 connections failed or ended abnormally: \
                 connect_refused_rst 2\n";
    assert!(printed.starts_with(below), "{printed}");
}

#[test]
fn scripts_fail_on_findings_that_are_urgent_enough() {
    let at = SocketAddr::from((Wire::FAR4, 9502));
    let _lab = lab::enter();
    let wire = Wire::new();
    let listener = wire.far.listen(at);
    let (_folder, path) = lab::recording_file();
    let synfin = Synfin::watch(["record", &path, "-N", &lab::ids([&wire.near])]);
    for mut pair in wire.pairs(&listener, at, FEW) {
        pair.answer_unread(b"unread data");
        let Pair { client, server } = pair;
        drop(client);
        wait_for_state(&server, TcpState::Close);
    }
    synfin.finish();
    let diagnose = ["diagnose", "--from", &path];
    let fails_on = |severity| Synfin::run(diagnose.into_iter().chain(["--fail-on", severity])).code;
    assert_eq!(["notice", "warning", "critical"].map(fails_on), [1, 1, 0]);
    assert_eq!(Synfin::run(diagnose).code, 0);
}
