//! `diagnose`: each finding in its situation, and none under a healthy load of the same size.

use std::{
    fs::File,
    io::{BufReader, Read as _, Write as _},
    net::SocketAddr,
    thread,
    time::Duration,
};

use nix::libc;
use serde_json::Value;
use synfin::{
    analysis::diagnose::thresholds::{CLOSE_WAIT_AGE, IDLE, LISTENER_GAP},
    trace::{
        recording::{Frame, Reader, Recorder},
        wire::Record,
    },
};
use synfin_common::state::TcpState;

use crate::{
    accuracy::change_records,
    lab::{
        self, Finished, Link, Loss, Namespace, Pair, Synfin, Wire, reset, set_option,
        wait_for_state,
    },
};

/// More than the threshold for a pattern.
const MANY: usize = 8;

/// Starts `diagnose` for these namespaces.
fn watch(namespaces: [&Namespace; 2]) -> Synfin {
    Synfin::watch(["diagnose", "-o", "json", "-N", &lab::ids(namespaces), "--for", "1h"])
}

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
    fn by(synfin: Synfin) -> Self {
        Self::printed(&synfin.finish())
    }

    fn in_recording(recorded: &Recorded) -> Self {
        let (_folder, path) = lab::recording_file();
        let mut recorder =
            Recorder::new(File::create(&path).expect("a file")).expect("a recording");
        recorded.0.iter().for_each(|frame| recorder.write(frame).expect("a frame"));
        Self::printed(&Synfin::run(["diagnose", "-o", "json", "--from", &path]))
    }

    fn printed(finished: &Finished) -> Self {
        let lines = finished.json_lines();
        let [printed] = &lines[..] else { panic!("expected one object, found {lines:#?}") };
        Self(printed["findings"].as_array().expect("findings").clone())
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
            let printed = [&finding["seen"], &finding["knob"]].map(Value::to_string).join(" ");
            assert!(printed.contains(part), "no {part:?} in {printed}");
        }
    }
}

#[test]
fn a_healthy_load_has_no_finding() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let synfin = watch(wire.both());
    let at = SocketAddr::from((Wire::FAR4, 9501));
    let listener = wire.far.listen(at);
    let mut kept = Vec::new();
    for (number, mut pair) in wire.pairs(&listener, at, lab::scaled(400, 100)).enumerate() {
        pair.send(b"question");
        pair.answer(b"answer");
        match number % 4 {
            0 => pair.close_by_server(),
            // As many as leak elsewhere, but these are open.
            1 if kept.len() < MANY => kept.push(pair),
            _ => pair.close_by_client(),
        }
    }
    Found::by(synfin).is_none();
}

#[test]
fn finds_an_accept_queue_that_overflows() {
    const LIMIT: usize = 4;
    let _lab = lab::enter();
    let wire = Wire::new();
    let synfin = watch([&wire.far, &wire.far]);
    let at = SocketAddr::from((Wire::FAR4, 9502));
    let _listener = wire.far.listen_up_to(at, LIMIT as i32);
    let _waiting: Vec<_> = (0..=LIMIT).map(|_| wire.near.connect(at)).collect();
    let _more: Vec<_> = (0..MANY).map(|_| wire.near.begin_connect(at)).collect();
    lab::eventually("drops", || (wire.far.counters().get("ListenDrops") > 0).then_some(()));
    let found = Found::by(synfin);
    found.is_only("accept_queue_overflow", "server", at.port());
    found.says("accept_queue_overflow", &["the limit is 4", "somaxconn", "backlog"]);
}

#[test]
fn finds_ephemeral_ports_that_run_out() {
    let _lab = lab::enter();
    let wire = Wire::new();
    wire.near.set("ipv4/ip_local_port_range", "40000 40099");
    let synfin = watch([&wire.near, &wire.near]);
    let at = SocketAddr::from((Wire::FAR4, 9503));
    let listener = wire.far.listen(at);
    wire.pairs(&listener, at, 90).for_each(Pair::close_by_client);
    let found = Found::by(synfin);
    found.is_only("ports_run_out", "client", at.port());
    let parts = ["90 of 100 ports toward 10.", "mostly by TIME_WAIT", "ip_local_port_range"];
    found.says("ports_run_out", &parts);
}

#[test]
fn finds_connections_that_stay_in_close_wait() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let at = SocketAddr::from((Wire::FAR4, 9504));
    let listener = wire.far.listen(at);
    let (recorded, leaked) = Recorded::of([&wire.far, &wire.far], || {
        let leak = |Pair { client, server }| {
            drop(client);
            wait_for_state(&server, TcpState::CloseWait);
            server
        };
        wire.pairs(&listener, at, MANY).map(leak).collect::<Vec<_>>()
    });
    Found::in_recording(&recorded.and_later(CLOSE_WAIT_AGE / 2)).is_none();
    let found = Found::in_recording(&recorded.and_later(CLOSE_WAIT_AGE));
    found.is_only("close_wait_leak", "server", at.port());
    let whose = format!("(process {})", std::process::id());
    found.says("close_wait_leak", &["8 connections are in CLOSE_WAIT", &whose]);
    drop(leaked);
}

#[test]
fn finds_handshakes_that_are_retransmitted() {
    const PORT: u16 = 9505;
    let _lab = lab::enter();
    let link = Link::new(Duration::from_millis(1), &[(PORT, Loss::Syn)]);
    let synfin = watch([&link.near, &link.near]);
    let listener = link.far.listen((Link::FAR, PORT));
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| link.near.connect((Link::FAR, PORT)).expect("a connection"));
        }
        for _ in 0..MANY {
            lab::wait_for_end(lab::accept(&listener));
        }
    });
    let found = Found::by(synfin);
    found.is_only("handshakes_retransmit", "client", PORT);
    found.says("handshakes_retransmit", &["8 of 8 handshakes (100 %)", "tcp_max_syn_backlog"]);
}

#[test]
fn finds_a_listener_that_was_closed_for_a_while() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let synfin = watch([&wire.far, &wire.far]);
    let at = SocketAddr::from((Wire::FAR4, 9506));
    let listener = wire.far.listen(at);
    let waiting: Vec<_> = (0..MANY).map(|_| wire.near.connect(at).expect("it waits")).collect();
    drop(listener);
    for _ in 0..MANY {
        wire.near.connect(at).expect_err("no listener");
    }
    thread::sleep(5 * LISTENER_GAP);
    let again = wire.far.listen(at);
    let found = Found::by(synfin);
    found.is_only("listener_gone", "server", at.port());
    found.says("listener_gone", &["8 connections that were not accepted yet were reset"]);
    drop((waiting, again));
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
    Found::in_recording(&recorded.with_longer_idle(IDLE / 2)).is_none();
    let found = Found::in_recording(&recorded.with_longer_idle(IDLE));
    found.is_only("idle_dropped", "client", at.port());
    found.says("idle_dropped", &["8 connections ended", "tcp_keepalive_time"]);
}

#[test]
fn finds_attempts_that_time_out_or_are_refused() {
    let _lab = lab::enter();
    let wire = Wire::new();
    wire.near.set("ipv4/tcp_syn_retries", 1);
    let synfin = watch([&wire.near, &wire.near]);
    let [silent, refused] = [9508, 9509].map(|port| SocketAddr::from((Wire::FAR4, port)));
    wire.far.filter("silence", &format!("tcp dport {} drop", silent.port()));
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| wire.near.connect(silent).expect_err("no answer"));
            scope.spawn(|| wire.near.connect(refused).expect_err("it is refused"));
        }
    });
    let found = Found::by(synfin);
    assert_eq!(found.0.len(), 2, "{:#?}", found.0);
    found.says("connect_timeout", &["8 of 8 attempts got no answer", "tcp_syn_retries"]);
    found.says("connect_refused", &["8 of 8 attempts were refused", "8 by a reset, 0 by ICMP"]);
}

#[test]
fn finds_peers_that_reset_and_applications_that_do_not_read() {
    let _lab = lab::enter();
    let wire = Wire::new();
    let synfin = watch(wire.both());
    let [by_peer, unread] = [9510, 9511].map(|port| SocketAddr::from((Wire::FAR4, port)));
    let (listener, other) = (wire.far.listen(by_peer), wire.far.listen(unread));
    for Pair { client, server } in wire.pairs(&listener, by_peer, MANY) {
        reset(server);
        drop(client);
    }
    for mut pair in wire.pairs(&other, unread, MANY) {
        pair.answer_unread(b"unread data");
        let Pair { client, server } = pair;
        drop(client);
        drop(server);
    }
    wire.near.wait_until_quiet();
    let found = Found::by(synfin);
    found.says("reset_by_peer", &["8 of 8 connections were reset by the peer"]);
    found.says("unread_data", &["8 of 8 connections were closed with unread data"]);
}
