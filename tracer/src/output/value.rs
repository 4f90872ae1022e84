//! The value of a column in one row, and its forms in JSON, CSV and tables.

use serde_json::{Number, Value as Json};

use crate::{message::escape::escape_control, tcp::role::Role};

/// Number of characters of a container's id in tables, as container runtimes show it.
const ID_SHOWN: usize = 12;

/// The value of a column in one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unknown or absent.
    Unknown,
    /// A count or a number.
    Int(u64),
    /// A share or a rate.
    Float(f64),
    /// A duration in microseconds.
    Micros(u64),
    /// A lower bound of a duration in microseconds.
    MicrosAtLeast(u64),
    /// A forecast in microseconds, which tables round to seconds, minutes or hours.
    MicrosForecast(u64),
    /// An upper bound of a duration in microseconds, which is unknown itself: null in JSON and CSV.
    MicrosAtMost(u64),
    /// An estimated duration in microseconds.
    MicrosAbout(u64),
    /// A duration in seconds.
    Seconds(f64),
    /// Yes or no.
    Bool(bool),
    /// A word of an enumeration.
    Word(&'static str),
    /// The word of an enumeration for what is unknown.
    UnknownWord(&'static str),
    /// Foreign text, which may contain any character.
    Text(String),
    /// A long generated id; tables show its beginning.
    Id(String),
    /// Several different values (this many) instead of one number: null in JSON and CSV.
    Multiple(usize),
    /// Foreign texts.
    Texts(Vec<String>),
    /// Foreign texts by name.
    TextByName(Vec<(String, String)>),
    /// A count for each name of a fixed set.
    Counts(Vec<(&'static str, u64)>),
    /// Buckets of a histogram: inclusive upper bound in microseconds, and count.
    Buckets(Vec<(u64, u64)>),
}

impl Value {
    /// A forecast, rounded down to microseconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "floats saturate, and a duration is not negative"
    )]
    pub(crate) fn forecast(seconds: f64) -> Self {
        Self::MicrosForecast((seconds * 1e6) as u64)
    }

    /// A duration in microseconds, which may be a lower bound.
    pub(crate) const fn micros(us: u64, is_lower_bound: bool) -> Self {
        if is_lower_bound { Self::MicrosAtLeast(us) } else { Self::Micros(us) }
    }

    /// A role: `?` in tables if it is unknown.
    pub(crate) const fn role(role: Role) -> Self {
        match role {
            Role::Server | Role::Client => Self::Word(role.name()),
            Role::Unknown => Self::UnknownWord(role.name()),
        }
    }

    /// `make` of the value, or [`Value::Unknown`] for `None`.
    pub fn known<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Unknown, make)
    }

    /// The value in JSON. Counts of zero are included, so that every line has the same fields:
    /// readers infer the schema from the first lines.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Unknown | Self::Multiple(_) | Self::MicrosAtMost(_) => Json::Null,
            Self::Int(value)
            | Self::Micros(value)
            | Self::MicrosAtLeast(value)
            | Self::MicrosAbout(value)
            | Self::MicrosForecast(value) => (*value).into(),
            Self::Float(value) => rounded(*value, 1e3),
            Self::Seconds(value) => rounded(*value, 1e6),
            Self::Bool(value) => (*value).into(),
            Self::Word(word) | Self::UnknownWord(word) => (*word).into(),
            Self::Text(text) | Self::Id(text) => text.as_str().into(),
            Self::Texts(texts) => texts.as_slice().into(),
            Self::TextByName(texts) => {
                let texts = texts.iter();
                Json::Object(
                    texts.map(|(name, text)| (name.clone(), text.as_str().into())).collect(),
                )
            }
            Self::Counts(counts) => Json::Object(
                counts.iter().map(|&(name, count)| (name.to_owned(), count.into())).collect(),
            ),
            Self::Buckets(buckets) => Json::Array(
                buckets.iter().map(|&(bound, count)| vec![bound, count].into()).collect(),
            ),
        }
    }

    /// The value as a CSV cell.
    pub fn to_cell(&self) -> String {
        match self {
            Self::Unknown
            | Self::Multiple(_)
            | Self::MicrosAtMost(_)
            | Self::Texts(_)
            | Self::TextByName(_)
            | Self::Counts(_)
            | Self::Buckets(_) => String::new(),
            Self::Text(text) | Self::Id(text) => escape_control(text),
            Self::Word(word) | Self::UnknownWord(word) => (*word).to_owned(),
            other => other.to_json().to_string(),
        }
    }

    /// The value in tables.
    pub fn to_plain(&self) -> String {
        match self {
            Self::Unknown => "-".to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) if *value == 0.0 => "0".to_owned(),
            Self::Float(value) if *value < 10.0 => format!("{value:.1}"),
            Self::Float(value) => format!("{value:.0}"),
            Self::Micros(us) => micros(*us),
            Self::MicrosAtLeast(us) => format!("≥{}", micros(*us)),
            Self::MicrosForecast(us) => forecast(*us),
            Self::MicrosAtMost(us) => format!("≤{}", micros(*us)),
            Self::MicrosAbout(us) => format!("~{}", micros(*us)),
            Self::Seconds(value) => format!("{value:.1}s"),
            Self::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
            Self::Word(word) => (*word).to_owned(),
            Self::UnknownWord(_) => "?".to_owned(),
            Self::Text(text) => escape_control(text),
            Self::Id(id) => escape_control(&id.chars().take(ID_SHOWN).collect::<String>()),
            Self::Multiple(values) => format!("×{values}"),
            Self::Counts(counts) => {
                let present = counts.iter().filter(|(_, count)| *count > 0);
                let listed: Vec<_> =
                    present.map(|(name, count)| format!("{name}:{count}")).collect();
                if listed.is_empty() { "-".to_owned() } else { listed.join(" ") }
            }
            Self::Texts(_) | Self::TextByName(_) | Self::Buckets(_) => String::new(),
        }
    }
}

/// Rounds to multiples of `1 / parts`; NaN and infinity become null.
fn rounded(value: f64, parts: f64) -> Json {
    Number::from_f64((value * parts).round() / parts).map_or(Json::Null, Json::Number)
}

/// A duration with three significant digits.
fn micros(us: u64) -> String {
    let scaled = |value: f64, unit: &str| match value {
        value if value < 10.0 => format!("{value:.2}{unit}"),
        value if value < 100.0 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    };
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => scaled(us as f64 / 1e3, "ms"),
        1_000_000..3_600_000_000 => scaled(us as f64 / 1e6, "s"),
        _ => scaled(us as f64 / 3.6e9, "h"),
    }
}

/// A forecast in seconds, minutes or hours: nothing more precise can be foreseen.
fn forecast(us: u64) -> String {
    match us / 1_000_000 {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}min", seconds / 60),
        seconds => format!("{}h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forecasts_are_rounded() {
        let shown =
            [999_999, 119_000_000, 150_000_000, 3_600_000_000, 28_180_000_000].map(forecast);
        assert_eq!(shown, ["0s", "119s", "2min", "60min", "7h"]);
    }

    #[test]
    fn an_unknown_role_is_a_word_in_data_and_a_question_mark_in_tables() {
        let role = Value::role(Role::Unknown);
        assert_eq!((role.to_json(), role.to_cell()), ("unknown".into(), "unknown".to_owned()));
        assert_eq!(role.to_plain(), "?");
    }

    #[test]
    fn durations_keep_three_digits() {
        let shown = [7, 999, 1_000, 30_338, 1_051_000, 75_000_000, 7_200_000_000].map(micros);
        assert_eq!(shown, ["7us", "999us", "1.00ms", "30.3ms", "1.05s", "75.0s", "2.00h"]);
    }
}
