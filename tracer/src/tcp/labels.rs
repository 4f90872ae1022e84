//! Fixed sets of words, such as the names of states.

/// A fixed set of words.
#[derive(Clone, Copy, Debug)]
pub struct Enumeration {
    /// What each of them is called: `reason`, `state`.
    pub name: &'static str,
    /// The words.
    pub all: fn() -> Vec<&'static str>,
}

impl Enumeration {
    /// The words if they are few, or what they are.
    pub(crate) fn choice(self) -> String {
        match (self.all)().as_slice() {
            [others @ .., last] if others.len() < 4 => format!("{} or {last}", others.join(", ")),
            _ => format!("a {}", self.name),
        }
    }

    pub(crate) fn contain(self, word: &str) -> bool {
        (self.all)().contains(&word)
    }
}
