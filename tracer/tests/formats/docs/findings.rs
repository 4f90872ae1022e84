//! Generates the page of `diagnose`'s findings.

use synfin::analysis::diagnose::RULES;

use super::markdown::GENERATED;

/// The page.
pub(crate) fn page() -> String {
    let mut page = format!(
        "{GENERATED}# Findings\n\n\
         The problems that `synfin diagnose` checks for in every row: a role and service port, and for clients \
         the address that they connect to. `synfin top` shows the same of the last minute (`d`). \
         All thresholds are in `tracer/src/analysis/diagnose/thresholds.rs`.\n"
    );
    for rule in RULES {
        page += &format!(
            "\n## {}\n\n**{}**: {}.\n\n*Found when* {}.\n",
            rule.id, rule.title, rule.matters, rule.when
        );
    }
    page
}
