//! What synfin makes of every scenario of the accuracy laboratory, from recordings that the kernel
//! tests made of them: the pure part is right about each on any machine. `docs/accuracy.md` says
//! so, beside what the kernel counted and what other tools said.
//!
//! `cargo xtask accuracy` plays them again, and writes the recordings and the page anew.

mod expected;
mod judge;
mod page;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use expected::{GROUPS, scenarios};
use judge::Seen;
use page::Said;
use synfin::tcp::{close_reason::CloseReason, handshake::Unmeasured};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy")
}

fn recording(scenario: &str) -> Vec<u8> {
    let file = folder().join("recordings").join(scenario).with_extension("rec");
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn seen(scenario: &str) -> Seen {
    Seen::of(&recording(scenario))
}

#[test]
fn every_recording_gives_the_expected_connections_and_figures() {
    let mut differences = Vec::new();
    for scenario in scenarios() {
        let recording = recording(scenario.name);
        for seen in [Seen::of(&recording), Seen::inferred(&recording)] {
            let found = seen.differences(scenario);
            differences.extend(found.into_iter().map(|it| format!("{}: {it}", scenario.name)));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn every_recording_has_a_scenario() {
    let recordings = fs::read_dir(folder().join("recordings")).expect("the recordings");
    let recordings = recordings.map(|file| file.expect("a file").file_name());
    let recordings: BTreeSet<_> =
        recordings.map(|name| name.into_string().expect("a plain name")).collect();
    let wanted: BTreeSet<_> =
        scenarios().map(|scenario| format!("{}.rec", scenario.name)).collect();
    assert_eq!(recordings, wanted, "`cargo xtask accuracy` puts it right");
}

/// Reasons that no scenario comes to, and what it would take.
const NOT_MET: &[(&str, &str)] = &[
    ("connect_lost_sight", "lost events"),
    ("connect_unknown", "an error of connect() that is not known"),
    ("reset_by_us_memory", "too little memory for sockets on the whole host"),
    ("namespace_gone", "a socket of the kernel's own"),
    ("lost_sight", "lost events"),
    ("unknown", "evidence that is not known"),
];

#[test]
fn every_close_reason_and_unmeasured_cause_has_a_recorded_scenario() {
    let met: BTreeSet<&str> =
        scenarios().flat_map(|scenario| scenario.synfin).flat_map(|line| line.split(' ')).collect();
    for reason in CloseReason::ALL {
        let is_met = met.contains(reason.id());
        let is_known = NOT_MET.iter().any(|(id, _)| *id == reason.id());
        assert!(is_met != is_known, "{}: a scenario, or why there is none", reason.id());
    }
    for cause in Unmeasured::ALL {
        assert!(met.contains(format!("unmeasured({})", cause.name()).as_str()), "{cause:?}");
    }
}

#[test]
fn the_accuracy_page_is_up_to_date() {
    let others = fs::read_to_string(folder().join("others.json")).expect("others.json");
    let others: BTreeMap<String, Said> = serde_json::from_str(&others).expect("what they said");
    let page = page::page(GROUPS, seen, &others);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/accuracy.md");
    if env::var_os("UPDATE_ACCURACY").is_some() {
        fs::write(&file, &page).expect("the page");
    }
    let old = fs::read_to_string(&file).unwrap_or_default();
    let same = page.lines().zip(old.lines()).take_while(|(new, old)| new == old).count();
    assert!(page == old, "differs from line {} on: `cargo xtask accuracy` puts it right", same + 1);
}
