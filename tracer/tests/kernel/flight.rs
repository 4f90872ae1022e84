//! The flight recorder with live traffic: each file covers its own time, and has the connections
//! from before it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    burst::scans_in,
    errors::through_a_shell,
    lab::{self, Broken, Namespace, Synfin, reset},
};

/// The first port of this file's tests.
const PORT: u16 = 8301;

const MOST: u64 = 8 << 20;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    paths
}

/// The size of a directory in bytes; files that are deleted during the call do not count.
fn size(folder: &Path) -> u64 {
    files(folder).iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

#[test]
fn each_file_has_the_connections_that_are_older() {
    let _lab = lab::enter();
    let outside = tempfile::tempdir().expect("a directory");
    let folder = outside.path().join("flight");
    let path = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    let namespace = Namespace::new();
    let (stays, passes) = ((Ipv4Addr::LOCALHOST, PORT), (Ipv4Addr::LOCALHOST, PORT + 1));
    let listeners = [namespace.listen(stays), namespace.listen(passes)];

    let size_limit = MOST.to_string();
    let args = ["record", "--keep", "2s", "--max-size", &size_limit, &path(&folder)];
    let synfin = Synfin::watch(args);
    let first = files(&folder);
    let pair = namespace.pair_with(&listeners[0], stays);
    lab::eventually("the first file is deleted, and the newest has the older connections", || {
        namespace.pair_with(&listeners[1], passes).close_by_client();
        assert!(size(&folder) <= MOST, "{}", size(&folder));
        let files = files(&folder);
        let is_over = files.len() >= 3 && !files.contains(&first[0]);
        (is_over && scans_in(&files[files.len() - 1], namespace.id()) > 0).then_some(())
    });
    reset(pair.client);
    lab::wait_for_end(pair.server);
    namespace.wait_until_quiet();
    synfin.finish();

    let files = files(&folder);
    assert!((3..=6).contains(&files.len()), "{files:?}");
    let mut closed = Vec::new();
    for file in &files {
        let report = Synfin::run(["report", "-o", "json", "--from", &path(file)]).report();
        report.check_nothing_lost();
        // The connection closes in one of the files, and later ones do not have it.
        if !closed.is_empty() {
            continue;
        }
        for role in ["server", "client"] {
            let row = report.row(role, PORT);
            assert_eq!((row.count("adopted"), row.count("attempts")), (1, 0), "{role} {file:?}");
        }
        closed = Synfin::run(["connections", "-o", "json", "--from", &path(file)]).json_lines();
        closed.retain(|connection| connection["service_port"] == PORT);
    }
    let mut reasons: Vec<_> = closed
        .iter()
        .map(|closed| (closed["role"].as_str(), closed["reason"].as_str(), &closed["preexisting"]))
        .collect();
    reasons.sort_by_key(|(role, ..)| *role);
    let preexisting = serde_json::Value::Bool(true);
    assert_eq!(
        reasons,
        [
            (Some("client"), Some("reset_by_us_linger0"), &preexisting),
            (Some("server"), Some("reset_by_peer"), &preexisting),
        ]
    );
    let report = Synfin::run(["report", "-o", "json", "--from", &path(&folder)]).report();
    report.check_nothing_lost();
    assert_eq!(report.row("server", PORT).count("closes.reset_by_peer"), 1);
}

#[test]
fn a_full_disk_only_deletes_the_oldest_files_early() {
    const DISK: u64 = 512 << 10;
    let _lab = lab::enter();
    let namespace = Namespace::new();
    let address = (Ipv4Addr::LOCALHOST, PORT + 10);
    let listener = namespace.listen(address);
    let broken = Broken::not();
    let (disk, kept) = (broken.file("disk"), broken.file("kept"));
    fs::create_dir(&disk).expect("a directory");
    let broken = broken.by(&format!("mount -t tmpfs -o size={DISK} none {disk}"));
    // The disk is visible in the command's mount namespace only.
    let script = format!("\"$@\"; code=$?; cp -r {disk} {kept}; exit $code");
    let command = broken.command(&["record", "--max-size", "1M", "--for", "6s", &disk]);
    let synfin = Synfin::watch_command(&mut through_a_shell(command, &script));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        for _ in 0..20 {
            namespace.pair_with(&listener, address).close_by_client();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let finished = synfin.end();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let kept = Path::new(&kept);
    assert!(size(kept) > DISK / 8, "{}", size(kept));
    let mut delivered = 0;
    for file in files(kept) {
        let file = file.to_str().expect("a UTF-8 path");
        let report = Synfin::run(["report", "-o", "json", "--from", file]).report();
        delivered += report.event("delivered");
    }
    let (_, all) = finished.stderr.split_once("recorded ").expect("the size of the recording");
    let all: u64 = all.split(' ').next().expect("a number").parse().expect("a number");
    assert!(delivered < all, "{delivered} of {all}: the disk was never full");
}
