//! A replay prints the same as the live trace, for every user with access to the recording.

use std::{
    fs::{self, Permissions},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use crate::{
    lab::{self, Namespace, Synfin, Wire, accept, reset},
    schema::{assert_valid, validator},
};

const PORT: u16 = 7101;

/// The commands that run live and from their recording.
const RUNS: [&[&str]; 10] = [
    &["report"],
    &["report", "-w"],
    &["report", "-o", "json"],
    &["report", "-o", "csv"],
    &["report", "0.2", "-o", "json"],
    &["trace"],
    &["trace", "-o", "json"],
    &["connections", "-w"],
    &["connections", "-o", "csv"],
    &["connections", "--open", "--for", "1h", "-o", "json"],
];

#[test]
fn a_replay_prints_the_live_output() {
    let _lab = lab::enter();
    let folder = tempfile::tempdir().expect("a directory");
    let recordings: Vec<_> =
        (0..RUNS.len()).map(|run| folder.path().join(run.to_string())).collect();
    // One file already exists and is readable for all users.
    fs::write(&recordings[0], "an old recording").expect("a file");

    let namespace = Namespace::new();
    let watching: Vec<_> = RUNS
        .iter()
        .zip(&recordings)
        .map(|(run, recording)| Synfin::watch(live(run, recording)))
        .collect();
    let open = some_traffic(&namespace);
    let reported: Vec<_> = watching.into_iter().map(|synfin| synfin.finish().stdout).collect();
    drop(open);

    for recording in &recordings {
        let mode = fs::metadata(recording).expect("the recording").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only its owner can read it");
    }
    let nobody = Nobody::new(folder.path());
    for ((run, recording), reported) in RUNS.iter().zip(&recordings).zip(reported) {
        assert!(
            reported.contains(&PORT.to_string()),
            "{run:?} has nothing about the traffic: {reported}"
        );
        let replayed = nobody.replays(run, recording);
        assert_eq!(replayed, reported, "{run:?}");
        if run.ends_with(&["json"]) {
            let schema = match run[0] {
                "report" => include_str!("../../../docs/schema/report.json"),
                "connections" => include_str!("../../../docs/schema/connection.json"),
                _ => include_str!("../../../docs/schema/transition.json"),
            };
            assert_valid(&validator(schema), &reported);
        }
    }
}

#[test]
fn a_recording_can_be_anonymized_while_it_is_made() {
    let _lab = lab::enter();
    let folder = tempfile::tempdir().expect("a directory");
    let recording = folder.path().join("recording");
    let path = recording.to_str().expect("a UTF-8 path");
    let wire = Wire::new();
    let _name = wire.far.name("synfin-anonymous");
    let ends = [Wire::FAR4, Wire::FAR6].map(|address| SocketAddr::from((address, PORT + 2)));

    let synfin = Synfin::watch(["record", "--anonymize", path]);
    for to in ends {
        let listener = wire.far.listen(to);
        (0..5).for_each(|_| wire.near.pair_with(&listener, to).close_by_client());
    }
    wire.near.wait_until_quiet();
    synfin.finish();

    let recorded = fs::read(&recording).expect("the recording");
    let holds = |part: &[u8]| recorded.windows(part.len()).any(|window| window == part);
    for address in [Wire::FAR4, Wire::FAR6, Wire::NEAR4, Wire::NEAR6] {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        assert!(!holds(&octets) && !holds(address.to_string().as_bytes()), "{address} is in it");
    }
    let own = fs::read_to_string("/proc/self/comm").expect("our name");
    for name in [own.trim(), "synfin-anonymous"] {
        assert!(!holds(name.as_bytes()), "{name} is in it");
    }
    let report = Synfin::run(["report", "-o", "json", "--from", path]).report();
    for role in ["client", "server"] {
        assert_eq!(report.row(role, PORT + 2).count("established"), 10, "{role}");
        let mut rows = report.rows().iter();
        let row = rows.find(|row| row["role"] == role && row["port"] == PORT + 2).expect("a row");
        assert!(row["owner"].as_str().is_some_and(|owner| owner.starts_with("p-")), "{row}");
    }
}

fn live<'a>(run: &[&'a str], recording: &'a Path) -> Vec<&'a str> {
    let recording = recording.to_str().expect("a UTF-8 path");
    [run, &["--record", recording, "--force"]].concat()
}

/// Connections with several close reasons; some stay open.
fn some_traffic(namespace: &Namespace) -> impl Sized {
    let address = (Ipv4Addr::LOCALHOST, PORT);
    let listener = namespace.listen(address);
    for number in 0..20 {
        let mut pair = namespace.pair_with(&listener, address);
        pair.send(b"request");
        pair.answer(b"answer");
        match number % 4 {
            0 => pair.close_by_server(),
            1 => reset(pair.client),
            2 => {
                pair.answer_unread(b"more");
                drop(pair);
            }
            _ => pair.close_by_client(),
        }
    }
    namespace.connect((Ipv4Addr::LOCALHOST, PORT + 1)).expect_err("no listener");
    let client = namespace.connect(address).expect("a connection");
    let server = accept(&listener);
    namespace.wait_until_quiet();
    (listener, client, server)
}

/// A user with access to recordings, but without permission to trace.
struct Nobody {
    program: std::path::PathBuf,
}

const NOBODY: u32 = 65534;

impl Nobody {
    /// Makes the program and the directory's files accessible to `nobody`.
    fn new(folder: &Path) -> Self {
        let program = folder.join("synfin");
        fs::copy(env!("CARGO_BIN_EXE_synfin"), &program).expect("a copy of the program");
        fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("an open folder");
        for entry in fs::read_dir(folder).expect("the folder") {
            let path = entry.expect("a file").path();
            fs::set_permissions(path, Permissions::from_mode(0o755)).expect("an open file");
        }
        Self { program }
    }

    fn replays(&self, run: &[&str], recording: &Path) -> String {
        let mut command = Command::new(&self.program);
        command.args(run).arg("--from").arg(recording).uid(NOBODY).gid(NOBODY);
        let finished = Synfin::run_command(&mut command);
        assert_eq!(finished.code, 0, "{run:?}: {}", finished.stderr);
        finished.stdout
    }
}
