//! Every close reason, and every cause of an unmeasured handshake, is what some row of
//! `tracer/tests/scenarios/close_reasons.rs` comes to.

use std::collections::BTreeSet;

use super::{Source, Violation, source::named};

const REASONS: &str = "tracer/src/tracker/close.rs";
const CAUSES: &str = "tracer/src/tracker/handshake.rs";
const SCENARIOS: &str = "tracer/tests/scenarios/close_reasons.rs";

pub(super) fn check(files: &[Source]) -> Vec<Violation> {
    let find = |path: &str| files.iter().find(|file| file.path == path);
    let (Some(reasons), Some(causes), Some(scenarios)) =
        (find(REASONS), find(CAUSES), find(SCENARIOS))
    else {
        return vec![Violation {
            path: SCENARIOS.into(),
            line: 1,
            what: format!("{REASONS}, {CAUSES} or {SCENARIOS} is gone: tell xtask where it is"),
        }];
    };
    let expected = expected(scenarios);
    let mut violations = Vec::new();
    for (source, variants) in [
        (reasons, variants_of(&reasons.code(), "reasons! {")),
        (causes, variants_of(&causes.code(), "pub enum Unmeasured {")),
    ] {
        if variants.is_empty() {
            violations.push(Violation::new(
                source,
                1,
                "the list that must have fixtures is not found: tell xtask how it looks now",
            ));
        }
        for (line, variant) in variants.iter().filter(|(_, variant)| !expected.contains(variant)) {
            let what = format!(
                "nothing comes to {variant} in {SCENARIOS}, so nobody knows that it can be \
                 decided: add a row with what the kernel reports then"
            );
            violations.push(Violation::new(source, *line, what));
        }
    }
    violations
}

/// What rows say that they come to: `ends_by(REASON)` and `unmeasured(Unmeasured::CAUSE)`.
fn expected(scenarios: &Source) -> BTreeSet<String> {
    let code: String = scenarios.code().split_whitespace().collect::<String>();
    let calls = ["ends_by(", "unmeasured(", "Unmeasured("];
    let arguments = calls.iter().flat_map(|call| code.split(call).skip(1));
    let paths = arguments.filter_map(|argument| named(argument).into_iter().next());
    paths.filter_map(|named| named.path.last().cloned()).collect()
}

/// The names, each first on a line of its own, between `begin` and the next line that begins
/// with `}`.
fn variants_of(code: &str, begin: &str) -> Vec<(usize, String)> {
    let lines = code.lines().enumerate().skip_while(|(_, line)| !line.contains(begin)).skip(1);
    let list = lines.take_while(|(_, line)| !line.starts_with('}'));
    let name = |line: &str| {
        let words = line.trim_start();
        let name = &words[..words.find(|c: char| !c.is_alphanumeric()).unwrap_or(words.len())];
        name.starts_with(|first: char| first.is_uppercase()).then(|| name.to_owned())
    };
    list.filter_map(|(index, line)| Some((index + 1, name(line)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: &str = "macro_rules! reasons { () => {} }\n\nreasons! {\n\
        \x20   ResetByPeer \"reset_by_peer\" Abnormal Closed, \"Reset\"\n\
        \x20       \"An RST arrived.\"\n        \"Look.\";\n\n\
        \x20   Unknown \"unknown\" Unknown Closed, \"u\"\n        \"m\" \"a\";\n}\n\nenum A { B }\n";
    const HANDSHAKE: &str =
        "pub enum Unmeasured {\n    /// A cookie.\n    SynCookie,\n    /// R.\n    Repair,\n}\n";

    fn lacking(scenarios: &str) -> Vec<(String, usize)> {
        let files = [(REASONS, CLOSE), (CAUSES, HANDSHAKE), (SCENARIOS, scenarios)];
        let files = files.map(|(path, text)| Source::new(path, text.as_bytes()));
        check(&files).into_iter().map(|found| (found.path, found.line)).collect()
    }

    #[test]
    fn rows_for_all_are_enough() {
        let rows = "row(a, ends_by(ResetByPeer)), row(b, ends_by(\n    CloseReason::Unknown)),\n\
                    unmeasured(Unmeasured::SynCookie), unmeasured(Unmeasured::Repair)";
        assert!(lacking(rows).is_empty());
    }

    #[test]
    fn what_is_named_otherwise_is_no_row() {
        let rows = "ends_by(ResetByPeer) // ends_by(Unknown)\nlet excused = [Unknown];\n\
                    unmeasured(Unmeasured::Repair)";
        assert_eq!(lacking(rows), [(REASONS.into(), 8), (CAUSES.into(), 3)]);
    }
}
