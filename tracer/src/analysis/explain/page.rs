//! Explanations as text, wrapped.

use synfin_common::state::TcpState;
use textwrap::{Options, fill};

use super::{
    Entry,
    topics::{TOPICS, Topic},
};
use crate::{
    analysis::registries::{Registry, registries},
    findings::rules::all_rules,
    message::wrap::wrap_with_label,
    tcp::{
        close_reason::{CloseReason, Phase},
        state,
    },
};

/// The explanation of an entry.
pub(crate) fn page(entry: &Entry, width: usize) -> String {
    if let Entry::Topic(topic) = entry {
        return topic.text.into();
    }
    let mut page = format!("{}\n", entry.name());
    for (label, text) in facts(entry) {
        page += &wrap_with_label(label, &text, width);
    }
    page
}

fn facts(entry: &Entry) -> Vec<(&'static str, String)> {
    match entry {
        Entry::Reason(reason) => {
            let info = reason.info();
            vec![
                ("reason", info.title.into()),
                ("class", format!("{}: {}", info.class.name(), info.class.meaning())),
                ("sum", format!("{}: {}", info.phase.sum(), info.phase.meaning())),
                ("meaning", info.meaning.into()),
                ("advice", info.advice.into()),
            ]
        }
        Entry::Column { info, command, of } => {
            let heading = entry.heading().map(|heading| ("heading", heading.to_owned()));
            let column = ("column", format!("of {of}, by `synfin {command}`"));
            let rest = [
                ("value", info.value()),
                ("shown in", info.visibility.name().into()),
                ("meaning", info.help.into()),
            ];
            [column].into_iter().chain(heading).chain(rest).collect()
        }
        Entry::Finding(rule) => {
            let mut facts = vec![
                ("finding", format!("{} ({})", rule.title, rule.severity.name())),
                ("found if", rule.when.into()),
                ("matters", rule.matters.into()),
            ];
            let reasons: Vec<_> = rule.explains.iter().map(|reason| reason.id()).collect();
            if !reasons.is_empty() {
                facts.push(("reasons", reasons.join(", ")));
            }
            facts
        }
        Entry::State(state) => {
            let title = format!("of a TCP socket: {}", state::title(*state));
            vec![("state", title), ("meaning", state::meaning(*state).into())]
        }
        Entry::Topic(topic) => vec![("topic", topic.title.into())],
    }
}

/// The names of all entries, in groups.
pub(crate) fn list(width: usize) -> String {
    let mut list = "Topics:\n".to_owned();
    for Topic { name, title, .. } in &TOPICS {
        list += &format!("  {name:<27} {title}\n");
    }
    list.push('\n');
    for phase in [Phase::Handshake, Phase::Established] {
        list += &format!("Reasons, {} ({}):\n", phase.sum(), phase.meaning());
        let reasons = CloseReason::ALL.iter().map(|reason| reason.info());
        for info in reasons.filter(|info| info.phase == phase) {
            list += &format!("  {:<27} {}\n", info.id, info.title);
        }
        list.push('\n');
    }
    list.push_str("Findings, by `synfin diagnose`:\n");
    for rule in all_rules() {
        list += &format!("  {:<27} {}\n", rule.id, rule.title);
    }
    list.push('\n');
    list += &group("TCP states", TcpState::ALL.map(|state| state.name().into()), width);
    for Registry { command, of, columns } in registries() {
        let names = columns.iter().map(|column| match column.title {
            "" => column.key.to_owned(),
            title => format!("{} ({title})", column.key),
        });
        list += &group(&format!("Columns of {of}, by `synfin {command}`"), names, width);
    }
    list += "`synfin explain WORD` explains one of them.\n";
    list
}

fn group(title: &str, names: impl IntoIterator<Item = String>, width: usize) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let options = Options::new(width).initial_indent("  ").subsequent_indent("  ");
    format!("{title}:\n{}\n\n", fill(&names.join(", "), options))
}
