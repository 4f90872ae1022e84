//! Closed sets of names, such as those of the states.

/// A closed set of names that a user can choose from or an output can contain.
#[derive(Clone, Copy, Debug)]
pub struct Enumeration {
    /// The kind of name: `reason`, `state`.
    pub name: &'static str,
    /// All names.
    pub all: fn() -> Vec<&'static str>,
}

impl Enumeration {
    /// The names if they are few, else the kind of name: for error messages.
    pub(crate) fn choice(self) -> String {
        match (self.all)().as_slice() {
            [others @ .., last] if others.len() < 4 => format!("{} or {last}", others.join(", ")),
            _ => format!("a {}", self.name),
        }
    }

    /// Whether this is one of the names.
    pub(crate) fn contain(self, word: &str) -> bool {
        (self.all)().contains(&word)
    }
}
