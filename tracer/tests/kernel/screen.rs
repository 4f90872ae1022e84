//! The live screen.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    burst::burst,
    lab::{self, Actor, MayMiss, Namespace, Synfin, Terminal, Wire},
};

#[test]
fn the_screen_fits_any_size_and_a_signal_restores_the_terminal() {
    let _lab = lab::enter();
    let mut screen = Terminal::start(&["top"], 80, 24);
    screen.wait_for("STATES");
    for (columns, lines) in [(30, 24), (80, 7)] {
        screen.resize(columns, lines);
        screen.wait_for(&format!("{columns}x{lines} is too"));
        screen.resize(80, 24);
        screen.wait_for("STATES");
    }
    kill(Pid::from_raw(screen.pid() as i32), Signal::SIGTERM).expect("SIGTERM");
    assert_eq!(screen.end().trim(), "");
}

#[test]
fn at_full_rate_keys_are_answered_and_nothing_is_lost() {
    const PORT: u16 = 7221;
    const TIMES: u32 = 5;
    let connections = lab::scaled(100_000, 5_000) as u64;
    let _lab = lab::enter_alone();
    let (_folder, recording) = lab::recording_file();
    let recording = &*recording;
    let (report, slowest, off) = lab::nearly_whole(MayMiss::one_in(1_000), || {
        let namespace = Namespace::new();
        let mut screen = Terminal::start(&["top", "--record", recording, "--force"], 80, 24);
        screen.wait_for("STATES");
        let slowest = thread::scope(|scope| {
            let burst = scope.spawn(|| burst(&namespace, PORT, connections));
            let mut slowest = Duration::ZERO;
            for _ in 0..TIMES {
                screen.press("?");
                slowest = slowest.max(screen.wait_for("redraw the screen"));
                screen.press("?");
                slowest = slowest.max(screen.wait_for("STATES"));
            }
            burst.join().expect("the burst");
            slowest
        });
        screen.wait_for(&PORT.to_string());
        screen.press("q");
        screen.end();
        let report = Synfin::run(["report", "-o", "json", "--from", recording]).report();
        (report, slowest)
    });
    assert_eq!(report.event("lost"), 0);
    let clients = report.row("client", PORT).count("established");
    assert!(clients.abs_diff(connections) <= off, "{clients} of {connections}");
    eprintln!("the slowest answer took {slowest:?}");
    assert!(slowest < lab::slowed(Duration::from_secs(1)), "an answer took {slowest:?}");
}

/// Opens the row of a connection that was reset, and its timeline.
#[test]
fn a_reset_connection_is_shown_step_by_step() {
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7222));
    let listener = namespace.listen(address);
    let id = namespace.id().to_string();
    let mut screen = Terminal::start(&["top", "-N", &id, "--role", "server"], 120, 40);
    // The listener, which the first scan finds.
    screen.wait_for("7222");
    let mut pair = namespace.pair_with(&listener, address);
    // Closing with unread data sends a RST.
    pair.answer_unread(b"an answer");
    drop(pair.client);
    screen.wait_for("reset_by_peer 1");
    screen.press("\r");
    screen.wait_for("HANDSHAKES");
    screen.press("\r");
    for text in ["SYN-ACK", "RST", "reset_by_peer: reset by the peer"] {
        screen.wait_for(text);
    }
    screen.press("q");
    screen.end();
}

/// The pictures in README.md and docs/guide.md, which `cargo xtask docs --pictures` writes.
#[test]
fn pictures_are_drawn_of_real_traffic() {
    const SIZE: (u16, u16) = (100, 26);
    let _lab = lab::enter();
    let (_folder, recording) = lab::recording_file();
    let wire = Wire::new();
    let synfin = Synfin::watch(["record", &recording, "-N", &lab::ids(wire.both())]);
    let actors = play(&wire);
    synfin.finish();
    drop(actors);

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let pictures = [
        ("screen", "", &["postgres", "connect_refused_rst", "reset_by_peer"][..]),
        ("connection", "/payments\n\n\n", &["LOCAL STATE", "SYN-ACK", "RST"]),
    ];
    for (name, keys, parts) in pictures {
        let still = synfin::app::draw_recording(recording.as_ref(), keys, SIZE.0, SIZE.1);
        let picture = lab::svg(&runtime.block_on(still).expect("a picture"));
        let picture = unnamed(&picture);
        for part in parts {
            assert!(picture.contains(part), "{name}: no {part}: {picture}");
        }
        if std::env::var_os("UPDATE_PICTURES").is_some() {
            let path = format!("{}/../docs/{name}.svg", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, picture).expect("the picture is written");
        }
    }
}

/// Replaces the names of this host and its kernel.
fn unnamed(picture: &str) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    let [host, kernel] = ["hostname", "osrelease"].map(|name| read(name).expect("its name"));
    let (host, kernel) = (host.trim(), kernel.trim());
    let name = format!("{host}  {kernel}");
    picture.replace(&name, &format!("{:<1$}", "web-1  6.18", name.chars().count()))
}

/// Some seconds of traffic: a web server, a database, a server that closes with unread requests,
/// and refused attempts.
fn play(wire: &Wire) -> Vec<Actor> {
    let [web, database, api] = [8443, 5432, 9000].map(|port| SocketAddr::from((Wire::FAR4, port)));
    let servers = ["nginx", "postgres", "payments"];
    let [mut nginx, mut postgres, mut payments] =
        servers.map(|name| Actor::start(&wire.far, None, name));
    for (server, at) in [(&mut nginx, web), (&mut postgres, database), (&mut payments, api)] {
        server.listen(at);
    }
    nginx.serve();
    postgres.serve();
    payments.hang_up();
    let clients = ["curl", "app", "prometheus"];
    let [mut curl, mut app, mut prometheus] =
        clients.map(|name| Actor::start(&wire.near, None, name));
    app.connect(database, 12);
    for second in 0..4 {
        for _ in 0..6 {
            curl.connect(web, 5);
            curl.close();
            app.connect(database, 2);
            thread::sleep(Duration::from_millis(120));
        }
        app.ask(api, second);
        prometheus.ask((Wire::FAR4, 9100), 1);
    }
    vec![nginx, postgres, payments, curl, app, prometheus]
}
