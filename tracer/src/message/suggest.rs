//! Suggestions for misspelt words.

use std::collections::HashSet;

use crate::tcp::state::normalized;

/// Least Jaro-Winkler similarity of a suggestion.
const SIMILAR: f64 = 0.85;

/// Maximum number of suggestions.
const SUGGESTIONS: usize = 3;

/// The question which of these names was meant, with a space at its end; empty if none is similar.
pub(crate) fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match &similar(word, names)[..] {
        [] => String::new(),
        [only] => format!("did you mean {only}? "),
        [others @ .., last] => format!("did you mean {} or {last}? ", others.join(", ")),
    }
}

/// Similar names, the most similar first.
fn similar<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let word = normalized(word);
    let similarity = |name: &str| {
        let name = normalized(name);
        if word.len() > 2 && name.contains(&word) {
            return 1.0;
        }
        strsim::jaro_winkler(&word, &name)
    };
    let names = names.into_iter().map(|name| (similarity(name), name));
    let mut similar: Vec<_> = names.filter(|(similarity, _)| *similarity >= SIMILAR).collect();
    // Of equally similar ones, the shortest is first.
    similar
        .sort_by(|(a, a_name), (b, b_name)| b.total_cmp(a).then(a_name.len().cmp(&b_name.len())));
    let mut seen = HashSet::new();
    similar.retain(|(_, name)| seen.insert(normalized(name)));
    similar.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect()
}
