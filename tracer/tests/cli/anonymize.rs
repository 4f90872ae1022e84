//! Anonymized recordings contain no name or address, and give the same output.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use synfin::trace::{
    event::{Input, TimeWaitChange},
    filter::Filter,
    ids::HOST_NETNS,
    names::{CgroupName, Container, Names},
    recording::{Frame, Reader},
    scan::ScanEnd,
};
use synfin_common::holder::SocketHolder;
use synfin_testkit::{
    HOST_NETNS as NETNS, RecordedKernel, encode, recorded, recording,
    sample::{web_server, web_server_with_losses},
};
use tempfile::TempDir;
use zerocopy::IntoBytes;

const PROGRAM: &str = env!("CARGO_BIN_EXE_synfin");

const KEY: &str = "a key that nobody can guess";

/// All names in the recording.
const NAMES: &[&str] = &[
    "web-1",
    "api",
    "curl",
    "worker",
    "mailer",
    "root",
    "holder",
    "blue",
    "kubepods",
    "shop",
    "web-0",
    "0123456789abcdef",
    "/run/netns",
];

const ADDRESSES: &[&str] = &[
    "192.0.2.10",
    "198.51.100.5",
    "198.51.100.6",
    "198.51.100.7",
    "203.0.113.54",
    "203.0.113.80",
    "203.0.113.99",
    "2001:db8::7",
    "2001:db8::10",
    "2001:db8::80",
    "::ffff:198.51.100.7",
];

/// A recording with a frame of every kind.
fn everything(filter: Value) -> Vec<Frame> {
    let mut frames = web_server();
    if let Frame::Session(session) = &mut frames[0] {
        session.filter = serde_json::from_value::<Filter>(filter).unwrap();
        session.namespaces = [(NETNS, HOST_NETNS.into()), (4_026_532_000, "blue".into())].into();
        session.limitations = vec!["no survey: (cannot open /run/netns/blue: no)".into()];
    }
    let path = "kubepods/pod1/0123456789abcdef".to_owned();
    let container = Container { id: "0123456789abcdef".into(), pod: Some("shop/web-0".into()) };
    let names = Names {
        cgroups: [(1, CgroupName { path, container: Some(container) })].into(),
        namespaces: [(4_026_532_001, "blue".into())].into(),
        inodes: [(4_026_532_001, 4_026_532_777)].into(),
    };
    let held = SocketHolder {
        sock: 0xffff_8880_0000_1000,
        time: RecordedKernel::BEGIN,
        start_time: 1,
        cgroup: 1,
        pid: 699,
        parent: 1,
        comm: *b"holder\0\0secret\0\0",
    };
    let end = ScanEnd {
        netns: 4_026_532_001,
        started: RecordedKernel::BEGIN,
        ended: RecordedKernel::BEGIN,
        error: Some("cannot open /run/netns/blue".into()),
        ephemeral_ports: None,
        counters: None,
    };
    let change = Input::TimeWaitChange(TimeWaitChange {
        time: RecordedKernel::BEGIN + 1_000_000,
        netns: NETNS,
        local: "[::ffff:192.0.2.10]:443".parse().unwrap(),
        remote: "[::ffff:198.51.100.7]:50443".parse().unwrap(),
        is_gone: true,
    });
    let more = [
        Frame::Names(names),
        Frame::SocketHolders(held.as_bytes().to_vec().into()),
        Frame::ScanEnd(end),
        // A frame of a later version.
        Frame::Events(encode::sized(b"\x63web-1").into()),
        Frame::Events(encode::batch([&change]).into()),
    ];
    frames.splice(1..1, more[..2].to_vec());
    frames.splice(6..6, more[2..].to_vec());
    frames
}

/// A filter on everything that identifies a user or host.
fn filter() -> Value {
    json!({
        "pids": [699, 700, 801],
        "local": ["192.0.2.0/24", "2001:db8::/32"],
        "remote": ["198.51.100.0/24", "203.0.113.80/32", "2001:db8::/64"],
        "namespaces": [NETNS],
        "cgroup": {"path": "kubepods", "kernel": {"id": 1, "level": 1}},
    })
}

#[test]
fn no_name_or_address_is_left() {
    let folder = TempDir::new().unwrap();
    let original = recorded(&everything(filter()));
    assert_eq!(found_in(&original).len(), NAMES.len() + ADDRESSES.len(), "the original has them");
    let anonymized = anonymized(&folder, &original, &[]);
    assert_eq!(found_in(&anonymized), BTreeSet::new());
    for number in ["4026531840", "4026532000", "4026532001"] {
        assert!(!contains(&anonymized, number.as_bytes()), "{number}");
    }
    let mode = fs::metadata(folder.path().join("out")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner can read it");
}

#[test]
fn an_anonymized_recording_gives_the_same_output() {
    let recordings =
        [web_server(), web_server_with_losses(), everything(json!({})), everything(filter())];
    for frames in recordings {
        assert_gives_the_same(&recorded(&frames));
    }
}

#[test]
fn anonymized_recordings_of_real_traffic_give_the_same_output() {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy/recordings");
    let recordings: Vec<_> =
        fs::read_dir(recordings).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!recordings.is_empty(), "there are no recordings");
    for path in recordings {
        assert_gives_the_same(&fs::read(path).unwrap());
    }
}

#[test]
fn the_same_key_gives_the_same_pseudonyms() {
    let folder = TempDir::new().unwrap();
    let original = recorded(&everything(filter()));
    let keys = [(KEY.to_owned() + "\n"), KEY.to_owned(), KEY.to_owned() + "!"].map(|secret| {
        let key = folder.path().join("key");
        fs::write(&key, secret).unwrap();
        anonymized(&folder, &original, &["--key-file", key.to_str().unwrap()])
    });
    assert!(keys[0] == keys[1], "the end of the line is not part of the key");
    assert!(keys[0] != keys[2], "another key gives other pseudonyms");
    let random = [(); 2].map(|()| anonymized(&folder, &original, &[]));
    assert!(random[0] != random[1], "random keys differ");
}

#[test]
fn a_damaged_recording_is_anonymized_up_to_the_damage() {
    let folder = TempDir::new().unwrap();
    let original = recorded(&web_server());
    let [from, to] = paths(&folder);
    fs::write(&from, &original[..original.len() - 1]).unwrap();
    let output = synfin(&["anonymize", &from, &to]);
    let count = frames(&original).len() - 1;
    let has = format!("{to} contains the {count} frames before that");
    assert_explains(&output, 2, &["can be read only in part", "cut off", &has]);
    assert_eq!(frames(&fs::read(&to).unwrap()).len(), count);
}

#[test]
fn failures_to_anonymize_are_explained() {
    let folder = TempDir::new().unwrap();
    let [from, to] = paths(&folder);
    let explained = |args: &[&str], code, parts: &[&str]| {
        assert_explains(&synfin(&[&["anonymize"], args].concat()), code, parts);
    };
    fs::write(&to, "precious").unwrap();
    explained(&[&from, &to], 2, &["cannot read the recording", "No such file"]);
    fs::write(&from, "no recording at all").unwrap();
    explained(&[&from, &to], 2, &["not a synfin recording"]);
    fs::write(&from, recorded(&web_server()[1..])).unwrap();
    explained(&[&from, &to], 2, &["does not begin with a session"]);
    assert_eq!(fs::read(&to).unwrap(), b"precious", "an unreadable input overwrites nothing");

    let from = recording(&folder, &web_server());
    let original = fs::read(&from).unwrap();
    explained(&[&from, &from], 2, &["into itself", "name another file"]);
    let link = folder.path().join("link");
    fs::hard_link(&from, &link).unwrap();
    explained(&[&from, link.to_str().unwrap()], 2, &["into itself"]);
    assert!(fs::read(&from).unwrap() == original);
    explained(&[&from, &to], 2, &["cannot write the recording", "File exists", "--force"]);
    explained(&[&from, "/dev/full"], 3, &["cannot continue", "No space left"]);
    explained(&[&from, "/no/such/folder/out"], 2, &["create its directory first"]);

    let key = folder.path().join("key");
    let key = key.to_str().unwrap();
    explained(&[&from, &to, "--key-file", key], 2, &["cannot read the key", "No such file"]);
    fs::write(key, "short").unwrap();
    explained(&[&from, &to, "--key-file", key], 2, &["5 bytes can be guessed"]);
    explained(&[&from, &to, "--key-file", "/dev/zero"], 2, &["more than 1048576 bytes"]);
    let output = synfin(&["record", &to, "--key-file", key]);
    assert_eq!(output.status.code(), Some(2), "a key without an effect is refused");
    assert_eq!(fs::read(&to).unwrap(), b"precious");
}

/// The names and addresses that occur, in any encoding.
fn found_in(recording: &[u8]) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    found.extend(NAMES.iter().copied().filter(|name| contains(recording, name.as_bytes())));
    for &text in ADDRESSES {
        let octets = match text.parse().unwrap() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let reversed: Vec<_> = octets.iter().rev().copied().collect();
        if [text.as_bytes(), &octets, &reversed].iter().any(|form| contains(recording, form)) {
            found.insert(text);
        }
    }
    found
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Asserts that a recording and its anonymized copy give the same output except for identities,
/// which are replaced one to one.
fn assert_gives_the_same(original: &[u8]) {
    let folder = TempDir::new().unwrap();
    anonymized(&folder, original, &[]);
    let runs: [&[&str]; 7] = [
        &["report"],
        &["report", "1"],
        &["report", "--by", "remote"],
        &["report", "--by", "owner"],
        &["trace"],
        &["connections"],
        &["connections", "--open"],
    ];
    for run in runs {
        let [before, after] = paths(&folder).map(|path| {
            let output = synfin(&[run, &["-o", "json", "--from", &path]].concat());
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        });
        assert_eq!(before.len(), after.len(), "{run:?}");
        if run.contains(&"--by") {
            // Rows are sorted by their names, which differ.
            let sorted = |reports: &[Value]| {
                let rows = reports.iter().flat_map(|report| report["ports"].as_array().unwrap());
                let mut rows: Vec<_> = rows.map(|row| blank(row.clone()).to_string()).collect();
                rows.sort();
                rows
            };
            assert_eq!(sorted(&before), sorted(&after), "{run:?}");
            continue;
        }
        let mut pairs = Pairs::default();
        before.iter().zip(&after).for_each(|(before, after)| pairs.compare("", before, after));
    }
}

/// Fields that identify a user or host.
const WHO: &[&str] = &[
    "name",
    "netns",
    "netns_name",
    "owner",
    "container",
    "pod",
    "remote",
    "local_addr",
    "remote_addr",
    "comm",
    "pid",
    "sock",
    "mptcp_id",
    "local",
    "cgroup",
];

fn blank(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (key, field) in fields {
                // A missing name identifies nobody.
                let is_somebody = WHO.contains(&key.as_str()) && !field.is_null();
                *field = if is_somebody { "somebody".into() } else { blank(field.take()) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = blank(item.take())),
        _ => {}
    }
    value
}

/// Names and pseudonyms, in both directions.
#[derive(Default)]
struct Pairs(BTreeMap<String, String>, BTreeMap<String, String>);

impl Pairs {
    fn compare(&mut self, key: &str, before: &Value, after: &Value) {
        match (before, after) {
            (Value::Object(one), Value::Object(other)) => {
                assert!(one.keys().eq(other.keys()), "{before}\n{after}");
                one.iter().for_each(|(key, value)| self.compare(key, value, &other[key]));
            }
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
                one.iter().zip(other).for_each(|(one, other)| self.compare(key, one, other));
            }
            _ if WHO.contains(&key) => {
                assert_eq!(before.is_null(), after.is_null(), "{key}: {before}, {after}");
                let kind = if key.ends_with("_addr") { "address" } else { key };
                let [one, other] = [before, after].map(|value| format!("{kind} {value}"));
                assert_eq!(self.0.entry(one.clone()).or_insert(other.clone()), &other);
                assert_eq!(self.1.entry(other).or_insert(one.clone()), &one);
            }
            _ if key == "limitations" => {}
            _ => assert_eq!(before, after, "{key}"),
        }
    }
}

/// The anonymized recording, in the file `out`.
fn anonymized(folder: &TempDir, original: &[u8], args: &[&str]) -> Vec<u8> {
    let [from, to] = paths(folder);
    fs::write(&from, original).unwrap();
    let output = synfin(&[&["anonymize", "--force", &from, &to], args].concat());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let count = frames(original).len();
    assert_eq!(printed, format!("synfin: anonymized {count} frames of {from} to {to}\n"));
    fs::read(&to).unwrap()
}

fn frames(recording: &[u8]) -> Vec<Frame> {
    Reader::new(recording).unwrap().map_while(Result::ok).collect()
}

fn paths(folder: &TempDir) -> [String; 2] {
    ["in", "out"].map(|name| folder.path().join(name).to_str().unwrap().to_owned())
}

fn synfin(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap()
}

fn assert_explains(output: &Output, code: i32, parts: &[&str]) {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{printed}");
    for part in ["synfin: ", "\n  why: ", "\n  remedy: "].iter().chain(parts) {
        assert!(printed.contains(part), "no {part:?} in {printed}");
    }
}
