//! A filter that silently forgets idle connections is recognisable.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{figure, micros, watch};
use crate::lab::{self, Synfin, Wire};

/// What the kernel's clock of segments, and the work in between, may differ by.
const LEEWAY: Duration = Duration::from_millis(60);

#[test]
fn what_a_filter_forgets_while_idle_is_recognisable() {
    const IDLE: Duration = Duration::from_millis(1200);
    let _lab = lab::enter();
    let at = SocketAddr::from((Wire::FAR4, 9271));
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording");
    let recording = recording.to_str().expect("a plain path");
    let (report, (idle, _wire)) = lab::conclusive(|| {
        let wire = Wire::new();
        let synfin = watch(&[&wire.near], &["--record", recording]);
        let listener = wire.far.listen(at);
        // These end well and at once.
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
            pair.client.write_all(b"are you there?").expect("it is sent");
            let error = pair.client.read(&mut [0]).expect_err("a reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            idle.push(begun.elapsed());
        }
        (synfin.finish().report(), (idle, wire))
    });
    let is_near = |told: Duration, idle: Duration| told.abs_diff(idle) < LEEWAY;
    let told = micros(&figure(&report, "client", at.port(), "idle.abnormal_p50_us"));
    assert!(is_near(told, idle[1]), "{told:?}, not {:?}", idle[1]);
    let all = micros(&figure(&report, "client", at.port(), "idle.p50_us"));
    assert!(all < LEEWAY, "{all:?}");

    let lines = Synfin::run(["connections", "-o", "json", "--from", recording]).json_lines();
    let reset = lines.iter().filter(|line| line["reason"] == "reset_by_peer");
    let told: Vec<_> = reset.map(|line| micros(&line["idle_us"])).collect();
    assert_eq!(told.len(), 3);
    for (told, idle) in told.into_iter().zip(idle) {
        assert!(is_near(told, idle), "{told:?}, not {idle:?}");
    }
}
