//! What a word that synfin prints means: a reason, a figure, a TCP state; and four topics of TCP.

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
    /// Why a connection ended.
    Reason(CloseReason),
    /// A figure, the command that shows it, and what it is a figure of.
    Column { info: ColumnInfo, command: &'static str, of: &'static str },
    /// A TCP state.
    State(TcpState),
    /// How TCP works.
    Topic(&'static Topic),
}

impl Entry {
    /// Everything: topics, reasons, states, figures.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let reasons = CloseReason::ALL.iter().map(|&reason| Self::Reason(reason));
        let columns = registries().into_iter().flat_map(|registry| {
            let (command, of) = (registry.command, registry.of);
            registry.columns.into_iter().map(move |info| Self::Column { info, command, of })
        });
        let topics = topics::TOPICS.iter().map(Self::Topic);
        topics.chain(reasons).chain(TcpState::ALL.map(Self::State)).chain(columns)
    }

    /// What it is called first.
    fn name(&self) -> &'static str {
        match self {
            Self::Reason(reason) => reason.id(),
            Self::Column { info, .. } => info.key,
            Self::State(state) => state.name(),
            Self::Topic(topic) => topic.name,
        }
    }

    /// What it is called besides, if anything.
    fn heading(&self) -> Option<&'static str> {
        match self {
            Self::Column { info, .. } if !info.title.is_empty() => Some(info.title),
            _ => None,
        }
    }

    fn is_called(&self, word: &str) -> bool {
        // A state's name is spelled otherwise, or is explained by the topic.
        if let Self::Topic(topic) = self {
            return topic.name.eq_ignore_ascii_case(&word.replace(' ', "-"));
        }
        let is = |name: &str| spelled(name) == spelled(word);
        is(self.name())
            || self.heading().is_some_and(is)
            || matches!(self, Self::State(state) if state::named(word) == Some(*state))
    }

    /// For scripts.
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

/// All that `word` is the name of, in any spelling.
pub(crate) fn look_up(word: &str) -> Result<Vec<Entry>, NotKnown> {
    let mut found: Vec<_> = Entry::all().filter(|entry| entry.is_called(word)).collect();
    if matches!(found.first(), Some(Entry::Topic(_))) {
        // What is only spelled alike is told by the topic.
        found.retain(|entry| matches!(entry, Entry::Topic(_)) || entry.name() == word);
    }
    if found.is_empty() { Err(NotKnown::new(word)) } else { Ok(found) }
}

/// A word that means nothing here.
#[derive(Debug)]
pub(crate) struct NotKnown {
    word: String,
    /// What may have been meant.
    near: Vec<&'static str>,
}

impl NotKnown {
    fn new(word: &str) -> Self {
        /// How alike two words are at least (Jaro-Winkler) if one is to be offered for the other.
        const ALIKE: f64 = 0.85;
        const OFFERED: usize = 3;
        let asked = spelled(word);
        let likeness = |name: &str| {
            let name = spelled(name);
            if asked.len() > 2 && name.contains(&asked) {
                return 1.0;
            }
            strsim::jaro_winkler(&asked, &name)
        };
        let names = Entry::all().flat_map(|entry| [Some(entry.name()), entry.heading()]);
        let mut near: Vec<_> = names.flatten().map(|name| (likeness(name), name)).collect();
        near.retain(|(likeness, _)| *likeness >= ALIKE);
        near.sort_by(|(a, a_name), (b, b_name)| b.total_cmp(a).then(a_name.cmp(b_name)));
        near.dedup_by_key(|(_, name)| *name);
        Self {
            word: word.into(),
            near: near.into_iter().take(OFFERED).map(|(_, name)| name).collect(),
        }
    }
}

impl From<NotKnown> for Failure {
    fn from(unknown: NotKnown) -> Self {
        let what = format!("nothing here is called \"{}\"", unknown.word);
        let meant = match unknown.near.as_slice() {
            [] => String::new(),
            [only] => format!("did you mean {only}? "),
            [others @ .., last] => format!("did you mean {} or {last}? ", others.join(", ")),
        };
        let why = "it is neither a reason's id, nor a figure's key or heading, nor a TCP state, nor one of the topics";
        Self::usage(what, why, meant + "`synfin explain` lists all that is")
    }
}
