//! The types of columns: unit and possible values.

use std::net::IpAddr;

use super::value::Value;
use crate::tcp::labels::Enumeration;

/// The type of a column's known values.
#[derive(Clone, Copy, Debug)]
pub enum ColumnKind {
    /// The version of the output's schema, a constant.
    Version(u64),
    /// A number that identifies, such as a port or a process id.
    Number,
    /// A count; contains the unit.
    Count(&'static str),
    /// A share or a rate; contains the unit.
    Float(&'static str),
    /// A duration in microseconds.
    Micros,
    /// A duration in seconds.
    Seconds,
    /// Yes or no.
    Bool,
    /// One word of an enumeration.
    Word(Enumeration),
    /// Foreign text, which may contain any character.
    Text,
    /// An IPv4 or IPv6 address.
    Address,
    /// A time (RFC 3339, UTC).
    Time,
    /// A list of texts.
    Texts,
    /// Texts by name.
    TextByName,
    /// A count for each word of an enumeration.
    Counts(Enumeration),
    /// A histogram: upper bounds in microseconds (inclusive), each with its count.
    Buckets,
}

impl ColumnKind {
    /// The type in words.
    pub fn form(self) -> String {
        match self {
            Self::Version(_) | Self::Number | Self::Count(_) | Self::Micros => "integer".into(),
            Self::Float(_) | Self::Seconds => "number".into(),
            Self::Bool => "true or false".into(),
            Self::Word(words) => words.choice(),
            Self::Text => "text".into(),
            Self::Address => "address".into(),
            Self::Time => "time (RFC 3339, UTC)".into(),
            Self::Texts => "list of texts".into(),
            Self::TextByName => "texts by name".into(),
            Self::Counts(words) => format!("counts by {}", words.name),
            Self::Buckets => "pairs of bound and count".into(),
        }
    }

    /// The unit, if it has one.
    pub const fn unit(self) -> Option<&'static str> {
        match self {
            Self::Count(unit) | Self::Float(unit) => Some(unit),
            Self::Micros | Self::Buckets => Some("microseconds"),
            Self::Seconds => Some("seconds"),
            _ => None,
        }
    }

    /// Whether a known value has this type.
    pub(super) fn allows(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Version(version), Value::Int(value)) => version == *value,
            (Self::Number | Self::Count(_), Value::Int(_))
            | (
                Self::Micros,
                Value::Micros(_)
                | Value::MicrosAtLeast(_)
                | Value::MicrosAbout(_)
                | Value::MicrosForecast(_),
            )
            | (Self::Bool, Value::Bool(_))
            | (Self::Text, Value::Text(_) | Value::Id(_))
            | (Self::Texts, Value::Texts(_))
            | (Self::TextByName, Value::TextByName(_))
            | (Self::Buckets, Value::Buckets(_)) => true,
            (Self::Float(_), Value::Float(value)) | (Self::Seconds, Value::Seconds(value)) => {
                value.is_finite() && *value >= 0.0
            }
            (Self::Address, Value::Text(text)) => text.parse::<IpAddr>().is_ok(),
            (Self::Time, Value::Text(text)) => humantime::parse_rfc3339(text).is_ok(),
            (Self::Word(words), Value::Word(word) | Value::UnknownWord(word)) => {
                words.contains(word)
            }
            (Self::Counts(words), Value::Counts(counts)) => {
                let named = counts.iter().map(|(name, _)| *name);
                named.eq((words.all)())
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: Enumeration = Enumeration { name: "side", all: || vec!["left", "right"] };

    #[test]
    fn a_kind_allows_its_own_values_only() {
        let text = |text: &str| Value::Text(text.into());
        let own = [
            (ColumnKind::Version(3), Value::Int(3)),
            (ColumnKind::Number, Value::Int(443)),
            (ColumnKind::Count("sockets"), Value::Int(0)),
            (ColumnKind::Float("percent"), Value::Float(0.5)),
            (ColumnKind::Micros, Value::Micros(7)),
            (ColumnKind::Micros, Value::MicrosAtLeast(7)),
            (ColumnKind::Micros, Value::MicrosAbout(7)),
            (ColumnKind::Seconds, Value::Seconds(2.5)),
            (ColumnKind::Bool, Value::Bool(false)),
            (ColumnKind::Word(SIDES), Value::Word("left")),
            (ColumnKind::Text, text("\x1b")),
            (ColumnKind::Address, text("2001:db8::1")),
            (ColumnKind::Time, text("2026-01-02T03:04:05.000006Z")),
            (ColumnKind::Texts, Value::Texts(Vec::new())),
            (ColumnKind::TextByName, Value::TextByName(Vec::new())),
            (ColumnKind::Counts(SIDES), Value::Counts(vec![("left", 0), ("right", 2)])),
            (ColumnKind::Buckets, Value::Buckets(vec![(7, 1)])),
        ];
        for (kind, value) in own {
            assert!(kind.allows(&value), "{kind:?}: {value:?}");
            assert!(!kind.allows(&Value::Unknown), "{kind:?}: an unknown value has no type");
        }
        let foreign = [
            (ColumnKind::Version(3), Value::Int(2)),
            (ColumnKind::Number, Value::Micros(443)),
            (ColumnKind::Micros, Value::Int(7)),
            (ColumnKind::Micros, Value::MicrosAtMost(7)),
            (ColumnKind::Float("percent"), Value::Float(f64::NAN)),
            (ColumnKind::Float("percent"), Value::Float(-1.0)),
            (ColumnKind::Seconds, Value::Float(2.5)),
            (ColumnKind::Word(SIDES), Value::Word("up")),
            (ColumnKind::Text, Value::Word("left")),
            (ColumnKind::Address, text("localhost")),
            (ColumnKind::Time, text("yesterday")),
            (ColumnKind::Counts(SIDES), Value::Counts(vec![("left", 1)])),
            (ColumnKind::Counts(SIDES), Value::Counts(vec![("left", 1), ("up", 1)])),
            (ColumnKind::Buckets, Value::Texts(Vec::new())),
        ];
        for (kind, value) in foreign {
            assert!(!kind.allows(&value), "{kind:?}: {value:?}");
        }
    }
}
