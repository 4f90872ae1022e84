//! The idle time of connections that a filter drops silently.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{column, micros, watch};
use crate::lab::{self, Synfin, Wire};

/// The error of the kernel's clock of segments, and of the steps in between.
const LEEWAY: Duration = Duration::from_millis(60);

#[test]
fn connections_dropped_while_idle_have_their_idle_time() {
    const IDLE: Duration = Duration::from_millis(1200);
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9271));
    let (_folder, recording) = lab::recording_file();
    let recording = &*recording;
    let (report, (idle, _wire)) = lab::conclusive(|| {
        let wire = Wire::new();
        let synfin = watch(&[&wire.near], &["--record", recording, "--force"]);
        let listener = wire.far.listen(at);
        // These connections close normally without being idle.
        wire.pairs(&listener, at, 7).for_each(lab::Pair::close_by_client);
        let mut pairs: Vec<_> = wire.pairs(&listener, at, 3).collect();
        for pair in &mut pairs {
            pair.send(b"question");
            pair.answer(b"answer");
        }
        let begun = Instant::now();
        thread::sleep(IDLE);
        let forgets = format!("tcp dport {} reject with tcp reset", at.port());
        wire.far.filter("forgets", &forgets);
        let mut idle = Vec::new();
        for pair in &mut pairs {
            pair.client.write_all(b"question").expect("the data is sent");
            let error = pair.client.read(&mut [0]).expect_err("a reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            idle.push(begun.elapsed());
        }
        (synfin.finish().report(), (idle, wire))
    });
    let is_near = |reported: Duration, idle: Duration| reported.abs_diff(idle) < LEEWAY;
    let reported = micros(&column(&report, "client", at.port(), "idle.abnormal_p50_us"));
    assert!(is_near(reported, idle[1]), "{reported:?}, not {:?}", idle[1]);
    let all = micros(&column(&report, "client", at.port(), "idle.p50_us"));
    assert!(all < LEEWAY, "{all:?}");

    let lines = Synfin::run(["connections", "-o", "json", "--from", recording]).json_lines();
    let reset = lines.iter().filter(|line| line["reason"] == "reset_by_peer");
    let reported: Vec<_> = reset.map(|line| micros(&line["idle_us"])).collect();
    assert_eq!(reported.len(), 3);
    for (reported, idle) in reported.into_iter().zip(idle) {
        assert!(is_near(reported, idle), "{reported:?}, not {idle:?}");
    }
}
