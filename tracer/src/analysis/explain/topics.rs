//! Topics of TCP, one screen each, and how synfin shows them.

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    /// A title of a few words.
    pub(crate) title: &'static str,
    /// At most 24 lines of 80 characters.
    pub(crate) text: &'static str,
}

/// All topics.
pub(crate) static TOPICS: [Topic; 4] = [
    Topic {
        name: "handshake",
        title: "how a connection begins",
        text: include_str!("topics/handshake.txt"),
    },
    Topic { name: "close", title: "how a connection ends", text: include_str!("topics/close.txt") },
    Topic {
        name: "half-close",
        title: "one direction has ended, the other still sends",
        text: include_str!("topics/half-close.txt"),
    },
    Topic {
        name: "time-wait",
        title: "why the side that closed first waits",
        text: include_str!("topics/time-wait.txt"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::explain::find;

    #[test]
    fn a_topic_fits_a_terminal() {
        for Topic { name, text, .. } in &TOPICS {
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{name}");
            assert!(text.lines().count() <= 24, "{name}");
        }
    }

    #[test]
    fn the_references_of_a_topic_can_be_explained() {
        for Topic { name, text, .. } in &TOPICS {
            let (_, see) = text.split_once("\n  See: ").expect("what to see");
            for word in see.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()) {
                assert!(find(word).is_ok(), "{name} refers to {word}");
            }
        }
    }
}
