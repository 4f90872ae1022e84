//! Replays the recordings of all accuracy scenarios, which the kernel tests made, and compares the
//! results with the expected ones. Generates `docs/accuracy.md` from these results, the kernel's
//! counters and the output of other tools.
//!
//! `cargo xtask accuracy` runs the scenarios again and updates the recordings and the page.

mod expected;
mod page;
mod replayed;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use expected::{GROUPS, scenarios};
use page::ToolOutput;
use replayed::Replayed;
use synfin::tcp::{close_reason::CloseReason, handshake::Unmeasured};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accuracy")
}

fn recording(scenario: &str) -> Vec<u8> {
    let file = folder().join("recordings").join(scenario).with_extension("rec");
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn seen(scenario: &str) -> Replayed {
    Replayed::of(&recording(scenario))
}

#[test]
fn every_recording_has_the_expected_result() {
    let mut differences = Vec::new();
    for scenario in scenarios() {
        let recording = recording(scenario.name);
        for seen in [Replayed::of(&recording), Replayed::inferred(&recording)] {
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
        recordings.map(|name| name.into_string().expect("a UTF-8 name")).collect();
    let wanted: BTreeSet<_> =
        scenarios().map(|scenario| format!("{}.rec", scenario.name)).collect();
    assert_eq!(recordings, wanted, "run `cargo xtask accuracy` to update the recordings");
}

/// Reasons without a scenario, and what a scenario would need.
const WITHOUT_SCENARIO: &[(&str, &str)] = &[
    ("connect_lost_sight", "lost events"),
    ("connect_unknown", "an error of connect() that is not known"),
    ("reset_by_us_memory", "too little memory for sockets on the whole host"),
    ("reset_by_us_mptcp", "a kernel before 6.18"),
    ("namespace_gone", "a socket of the kernel's own"),
    ("lost_sight", "lost events"),
    ("unknown", "evidence that is not known"),
];

#[test]
fn every_close_reason_and_unmeasured_cause_has_a_recorded_scenario() {
    // A role can have the name of a reason.
    let recorded: BTreeSet<&str> = scenarios()
        .flat_map(|scenario| scenario.synfin)
        .flat_map(|line| line.split(' ').skip(1))
        .collect();
    for reason in CloseReason::ALL {
        let is_recorded = recorded.contains(reason.id());
        let is_known = WITHOUT_SCENARIO.iter().any(|(id, _)| *id == reason.id());
        assert!(is_recorded != is_known, "{}: a scenario, or why there is none", reason.id());
    }
    for cause in Unmeasured::ALL {
        assert!(recorded.contains(format!("unmeasured({})", cause.name()).as_str()), "{cause:?}");
    }
}

#[test]
fn the_accuracy_page_is_up_to_date() {
    let others = fs::read_to_string(folder().join("others.json")).expect("others.json");
    let others: BTreeMap<String, ToolOutput> =
        serde_json::from_str(&others).expect("a map by scenario");
    let page = page::page(GROUPS, seen, &others);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/accuracy.md");
    if env::var_os("UPDATE_ACCURACY").is_some() {
        fs::write(&file, &page).expect("the page");
    }
    let old = fs::read_to_string(&file).unwrap_or_default();
    let same = page.lines().zip(old.lines()).take_while(|(new, old)| new == old).count();
    assert!(page == old, "differs from line {} on: run `cargo xtask accuracy`", same + 1);
}
