//! How TCP works, a screenful a topic, and what of it synfin shows.

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    /// What it is about, in a few words.
    pub(crate) title: &'static str,
    /// A screenful.
    pub(crate) text: &'static str,
}

/// All.
pub(crate) static TOPICS: [Topic; 4] = [
    Topic {
        name: "handshake",
        title: "how a connection begins",
        text: include_str!("topics/handshake.txt"),
    },
    Topic { name: "close", title: "how a connection ends", text: include_str!("topics/close.txt") },
    Topic {
        name: "half-close",
        title: "one direction has ended, the other goes on",
        text: include_str!("topics/half-close.txt"),
    },
    Topic {
        name: "time-wait",
        title: "what remains of who closed first",
        text: include_str!("topics/time-wait.txt"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::explain::look_up;

    #[test]
    fn a_topic_fits_a_terminal() {
        for Topic { name, text, .. } in &TOPICS {
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{name}");
            assert!(text.lines().count() <= 24, "{name}");
        }
    }

    #[test]
    fn what_a_topic_refers_to_can_be_explained() {
        for Topic { name, text, .. } in &TOPICS {
            let (_, see) = text.split_once("\n  See: ").expect("what to see");
            for word in see.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()) {
                assert!(look_up(word).is_ok(), "{name} refers to {word}");
            }
        }
    }
}
