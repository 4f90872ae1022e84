//! What the parts of a row have in common.

use std::collections::BTreeSet;

/// The common value of everything that a row covers; of several values, their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Common<T> {
    /// No value is known.
    #[default]
    Unknown,
    /// All known values are this one.
    One(T),
    /// Number of different values.
    Several(usize),
}

impl<T> Common<T> {
    /// The value, if it is the only one.
    pub fn one(&self) -> Option<&T> {
        match self {
            Self::One(value) => Some(value),
            Self::Unknown | Self::Several(_) => None,
        }
    }

    pub(super) fn of(values: BTreeSet<T>) -> Self {
        let several = values.len();
        let mut values = values.into_iter();
        match (values.next(), several) {
            (None, _) => Self::Unknown,
            (Some(value), 1) => Self::One(value),
            (Some(_), _) => Self::Several(several),
        }
    }

    /// Adds what a part has in common. Equal ones among several are not recognized.
    pub(super) fn add(&mut self, part: Self)
    where
        T: PartialEq,
    {
        let count = |values: &Self| match values {
            Self::Unknown => 0,
            Self::One(_) => 1,
            Self::Several(count) => *count,
        };
        match (&*self, &part) {
            (_, Self::Unknown) => {}
            (Self::One(value), Self::One(other)) if value == other => {}
            (Self::Unknown, _) => *self = part,
            _ => *self = Self::Several(count(self).saturating_add(count(&part))),
        }
    }
}
