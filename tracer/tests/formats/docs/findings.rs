//! Generates the page of `diagnose`'s findings.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;
use synfin::findings::rules::all_rules;

use super::{
    markdown::GENERATED,
    tried::{HEALTHY, SITUATIONS},
};

const TRIED: &str = "
## Tried

A kernel test plays all of the following at once, with clients, servers and both on this host, for the ten seconds
that `synfin diagnose` observes by default. Each line has exactly this finding, live and from a recording, and
three connections are enough for it.

| what happens | finding | what it says |
| --- | --- | --- |
";

const LIMITS: &str = "
## What is not found

- Clients of other hosts that are refused within two seconds on a port of the ephemeral range
  (`net.ipv4.ip_local_port_range`) that had no listener, or on one that a client of this host has used in the last
  quarter of an hour: late segments of other connections are reset in the same way. The host of the clients finds them.
- A port with listeners on some addresses while clients of other hosts are refused on others, if connections are
  established as well.
- A non-blocking connect() that a firewall on the same host rejects with ICMP: the kernel shows the error to the
  application only, so the attempt counts as `connect_cancelled`.
- A receiver that never reads, before the kernel gives up its connections (`timeout_zero_window`).
- Open connections that got no answer during a recording, but do at its end.
";

/// What `diagnose` said of each situation when it was played last.
fn said() -> BTreeMap<String, Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/situations/said.json");
    let text = fs::read_to_string(&file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn tried() -> String {
    let said = said();
    let mut table = TRIED.to_owned();
    for situation in SITUATIONS {
        let text = |key: &str| said.get(situation.name)?[key].as_str().map(str::to_owned);
        let affects =
            text("affects").map(|affects| format!("; affects {}", affects.replace('\n', "; ")));
        let text = text("seen").unwrap_or_default() + &affects.unwrap_or_default();
        let (id, severity) = (situation.finding.id, situation.finding.severity);
        table += &format!("| {} | [`{id}`](#{id}), {severity} | {text} |\n", situation.what);
    }
    table += "\nAt the same time these healthy loads have none:\n\n";
    for load in HEALTHY {
        table += &format!("- {}\n", load.what);
    }
    table
}

/// The page.
pub(crate) fn page() -> String {
    let mut page = format!(
        "{GENERATED}# Findings\n\n\
         The problems that `synfin diagnose` checks for in every row: a role and service port, and for clients \
         the address that they connect to. `synfin top` shows the same of the last minute (`d`). \
         Findings that cause each other, in one row or at both ends of connections within this host, are \
         one, and so are those of ten or more ports or destinations.\n"
    );
    for rule in all_rules() {
        page += &format!(
            "\n## {}\n\n**{}** ({}): {}.\n\n*Found when* {}.\n",
            rule.id,
            rule.title,
            rule.severity.name(),
            rule.matters,
            rule.when
        );
    }
    page + LIMITS + &tried()
}
