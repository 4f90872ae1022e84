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
    /// For error messages: the names if there are at most four, otherwise the kind of name.
    pub(crate) fn choice(self) -> String {
        match (self.all)().as_slice() {
            [others @ .., last] if others.len() < 4 => format!("{} or {last}", others.join(", ")),
            _ => format!("a {}", self.name),
        }
    }

    /// Whether this is one of the names.
    pub(crate) fn contains(self, name: &str) -> bool {
        (self.all)().contains(&name)
    }
}
