//! Explanations of the words that synfin prints (reasons, columns, TCP states) and of four topics.

pub(crate) mod page;
pub(crate) mod topics;

pub(crate) use page::{list, page};
use serde_json::{Value as Json, json};
use synfin_common::state::TcpState;
use topics::Topic;

use crate::{
    analysis::registries::registries,
    message::failure::Failure,
    output::column::ColumnInfo,
    tcp::{
        close_reason::CloseReason,
        state::{self, spelled},
    },
};

/// Something that can be explained.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    /// A close reason.
    Reason(CloseReason),
    /// A column, the command that prints it, and what its rows describe.
    Column { info: ColumnInfo, command: &'static str, of: &'static str },
    /// A TCP state.
    State(TcpState),
    /// A topic of TCP.
    Topic(&'static Topic),
}

impl Entry {
    /// All entries: topics, reasons, states, columns.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let reasons = CloseReason::ALL.iter().map(|&reason| Self::Reason(reason));
        let columns = registries().into_iter().flat_map(|registry| {
            let (command, of) = (registry.command, registry.of);
            registry.columns.into_iter().map(move |info| Self::Column { info, command, of })
        });
        let topics = topics::TOPICS.iter().map(Self::Topic);
        topics.chain(reasons).chain(TcpState::ALL.map(Self::State)).chain(columns)
    }

    /// The name.
    fn name(&self) -> &'static str {
        match self {
            Self::Reason(reason) => reason.id(),
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
        let is = |name: &str| spelled(name) == spelled(word);
        is(self.name())
            || self.heading().is_some_and(is)
            || matches!(self, Self::State(state) if state::named(word) == Some(*state))
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
        // The topic explains the state that is spelled alike.
        found.retain(|entry| matches!(entry, Entry::Topic(_)) || entry.name() == word);
    }
    if found.is_empty() { Err(UnknownWord::new(word)) } else { Ok(found) }
}

/// A word that is no entry's name.
#[derive(Debug)]
pub(crate) struct UnknownWord {
    word: String,
    /// Similar names, the most similar first.
    similar: Vec<&'static str>,
}

impl UnknownWord {
    fn new(word: &str) -> Self {
        /// Least Jaro-Winkler similarity of a suggestion.
        const SIMILAR: f64 = 0.85;
        const SUGGESTIONS: usize = 3;
        let word_spelled = spelled(word);
        let similarity = |name: &str| {
            let name = spelled(name);
            if word_spelled.len() > 2 && name.contains(&word_spelled) {
                return 1.0;
            }
            strsim::jaro_winkler(&word_spelled, &name)
        };
        let names = Entry::all().flat_map(|entry| [Some(entry.name()), entry.heading()]);
        let mut similar: Vec<_> = names.flatten().map(|name| (similarity(name), name)).collect();
        similar.retain(|(similarity, _)| *similarity >= SIMILAR);
        similar.sort_by(|(a, a_name), (b, b_name)| b.total_cmp(a).then(a_name.cmp(b_name)));
        similar.dedup_by_key(|(_, name)| *name);
        Self {
            word: word.into(),
            similar: similar.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect(),
        }
    }
}

impl From<UnknownWord> for Failure {
    fn from(unknown: UnknownWord) -> Self {
        let what = format!("there is no explanation of \"{}\"", unknown.word);
        let meant = match unknown.similar.as_slice() {
            [] => String::new(),
            [only] => format!("did you mean {only}? "),
            [others @ .., last] => format!("did you mean {} or {last}? ", others.join(", ")),
        };
        let why =
            "it is not the id of a reason, the key or heading of a column, a TCP state or a topic";
        Self::usage(what, why, meant + "`synfin explain` lists everything that it can explain")
    }
}
