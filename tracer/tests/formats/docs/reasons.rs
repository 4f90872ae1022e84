//! Generates the page of close reasons.

use synfin::tcp::close_reason::{Class, CloseReason, Phase};

use super::markdown::{GENERATED, code, table};

/// One line per reason.
fn in_brief() -> String {
    let rows = CloseReason::ALL.iter().map(|reason| {
        let info = reason.info();
        let link = format!("[{}](#{})", code(info.id), info.id);
        vec![link, info.class.name().into(), info.meaning.into()]
    });
    table(&["id", "class", "what happened"], rows)
}

/// The page with all reasons in full.
pub(crate) fn page() -> String {
    let mut page = format!(
        "{GENERATED}# Close reasons\n\n\
         A failed or closed connection has one reason, which belongs to one class and counts in one \
         sum. The ids are the same in every output; `synfin explain ID` prints the description.\n\n"
    );
    let classes = Class::ALL.map(|class| vec![code(class.name()), class.meaning().into()]);
    page += &table(&["class", "meaning"], classes);
    page += &format!("\n## All reasons\n\n{}", in_brief());
    for outcome in [Phase::Handshake, Phase::Established] {
        page += &format!("\n## `{}`: {}\n", outcome.sum(), outcome.meaning());
        let infos = CloseReason::ALL.iter().map(|reason| reason.info());
        for info in infos.filter(|info| info.phase == outcome) {
            page += &format!("\n### {}\n\n", info.id);
            page += &format!("**{}** ({}). ", sentence(info.title), info.class.name());
            page += &format!("{}\n\n*Advice:* {}\n", info.meaning, info.advice);
        }
    }
    page
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}
