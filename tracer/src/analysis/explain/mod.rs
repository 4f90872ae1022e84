//! Explanations of the words that synfin prints (reasons, findings, columns, TCP states) and of four
//! topics.

pub(crate) mod page;
pub(crate) mod topics;

pub(crate) use page::{list, page};
use serde_json::{Value as Json, json};
use synfin_common::state::TcpState;
use topics::Topic;

use crate::{
    analysis::registries::registries,
    findings::{Rule, rules::all_rules},
    message::{failure::Failure, suggest::did_you_mean},
    output::column::ColumnInfo,
    tcp::{
        close_reason::CloseReason,
        state::{self, normalized},
    },
};

/// Something that can be explained.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// A close reason.
    Reason(CloseReason),
    /// A column, the command that prints it, and what its rows describe.
    Column { info: ColumnInfo, command: &'static str, of: &'static str },
    /// A finding of `diagnose`.
    Finding(&'static Rule),
    /// A TCP state.
    State(TcpState),
    /// A topic of TCP.
    Topic(&'static Topic),
}

impl Entry {
    /// All entries: topics, reasons, findings, states, columns.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let reasons = CloseReason::ALL.iter().map(|&reason| Self::Reason(reason));
        let columns = registries().into_iter().flat_map(|registry| {
            let (command, of) = (registry.command, registry.of);
            registry.columns.into_iter().map(move |info| Self::Column { info, command, of })
        });
        let topics = topics::TOPICS.iter().map(Self::Topic);
        let findings = all_rules().map(Self::Finding);
        topics.chain(reasons).chain(findings).chain(TcpState::ALL.map(Self::State)).chain(columns)
    }

    /// The name.
    fn name(&self) -> &'static str {
        match self {
            Self::Reason(reason) => reason.id(),
            Self::Finding(rule) => rule.id,
            Self::Column { info, .. } => info.key,
            Self::State(state) => state.name(),
            Self::Topic(topic) => topic.name,
        }
    }

    /// The heading in tables, if it has one.
    fn heading(&self) -> Option<&'static str> {
        match self {
            Self::Column { info, .. } if !info.title.is_empty() => Some(info.title),
            _ => None,
        }
    }

    fn is_called(&self, word: &str) -> bool {
        // `TIME_WAIT` is the state, `time-wait` the topic.
        if let Self::Topic(topic) = self {
            return topic.name.eq_ignore_ascii_case(&word.replace(' ', "-"));
        }
        let is = |name: &str| normalized(name) == normalized(word);
        is(self.name())
            || self.heading().is_some_and(is)
            || matches!(self, Self::State(state) if state::from_name(word) == Some(*state))
    }

    /// The explanation as JSON.
    pub(crate) fn to_json(self) -> Json {
        match self {
            Self::Reason(reason) => {
                let info = reason.info();
                json!({
                    "is": "reason",
                    "id": info.id,
                    "class": info.class.name(),
                    "sum": info.phase.sum(),
                    "title": info.title,
                    "meaning": info.meaning,
                    "advice": info.advice,
                })
            }
            Self::Column { info, command, of } => json!({
                "is": "figure",
                "key": info.key,
                "heading": self.heading(),
                "command": command,
                "of": of,
                "value": info.kind.form(),
                "unit": info.kind.unit(),
                "nullable": info.nullable,
                "shown": info.visibility.name(),
                "meaning": info.help,
            }),
            Self::Finding(rule) => json!({
                "is": "finding",
                "id": rule.id,
                "severity": rule.severity.name(),
                "title": rule.title,
                "when": rule.when,
                "meaning": format!("{}.", rule.matters),
                "reasons": rule.explains.iter().map(|reason| reason.id()).collect::<Vec<_>>(),
            }),
            Self::State(state) => json!({
                "is": "state",
                "name": state.name(),
                "meaning": state::meaning(state),
            }),
            Self::Topic(topic) => json!({
                "is": "topic",
                "name": topic.name,
                "title": topic.title,
                "meaning": topic.text.trim_end(),
            }),
        }
    }
}

/// All entries with this name, in any spelling.
pub(crate) fn find(word: &str) -> Result<Vec<Entry>, UnknownWord> {
    let mut found: Vec<_> = Entry::all().filter(|entry| entry.is_called(word)).collect();
    if matches!(found.first(), Some(Entry::Topic(_))) {
        // The topic explains the state of the same name.
        found.retain(|entry| matches!(entry, Entry::Topic(_)) || entry.name() == word);
    }
    if found.is_empty() { Err(UnknownWord(word.to_owned())) } else { Ok(found) }
}

/// A word that is no entry's name.
#[derive(Debug)]
pub(crate) struct UnknownWord(String);

impl From<UnknownWord> for Failure {
    fn from(UnknownWord(word): UnknownWord) -> Self {
        let what = format!("there is no explanation of \"{word}\"");
        let why = "it is not the id of a reason or a finding, the key or heading of a column, a TCP state \
                   or a topic";
        let names = Entry::all().flat_map(|entry| [Some(entry.name()), entry.heading()]);
        let meant = did_you_mean(&word, names.flatten());
        Self::usage(what, why, meant + "`synfin explain` lists everything that it can explain")
    }
}
