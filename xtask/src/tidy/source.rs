//! A file as the rules see it. Of Rust, also what the compiler sees: without comments and the
//! content of strings, and the paths that it names, those of nested imports spelled out.

use std::ops::Range;

/// A file of the repository.
pub(super) struct Source {
    /// Below the root.
    pub(super) path: String,
    /// Empty unless it is text.
    pub(super) text: String,
    pub(super) is_text: bool,
}

impl Source {
    pub(super) fn new(path: &str, bytes: &[u8]) -> Self {
        // What git takes for binary.
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        Self {
            path: path.to_owned(),
            text: text.unwrap_or_default().to_owned(),
            is_text: text.is_some(),
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_below(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The compiler's view: comments, the content of strings and what is only for tests are blank.
    /// Every line is where it was.
    pub(super) fn code(&self) -> String {
        without_tests(without_comments(&self.text))
    }
}

/// A path such as `std::fs::read`, in an import or where it is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// From 1 on.
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

/// All paths in `code`, and macros as `name!`.
pub(super) fn named(code: &str) -> Vec<Named> {
    let tokens = tokens(code);
    let mut named = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if token.text == "use" {
            at += 1;
            import(&tokens, &mut at, &[], &mut named);
        } else if token.is_word() {
            named.push(path_at(&tokens, &mut at));
        } else {
            at += 1;
        }
    }
    named
}

struct Token<'a> {
    text: &'a str,
    line: usize,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Words, `::`, and single characters.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_of_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut tokens = Vec::new();
    for (index, text) in code.lines().enumerate() {
        let line = index + 1;
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let len = if is_of_word(first) {
                rest.find(|character| !is_of_word(character)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(len);
            tokens.push(Token { text, line });
            rest = after.trim_start();
        }
    }
    tokens
}

/// The path, or macro, that begins with the word at `at`.
fn path_at(tokens: &[Token<'_>], at: &mut usize) -> Named {
    let line = tokens[*at].line;
    let mut path = vec![tokens[*at].text.to_owned()];
    *at += 1;
    while let [separator, word, ..] = &tokens[*at..]
        && separator.text == "::"
        && word.is_word()
    {
        path.push(word.text.to_owned());
        *at += 2;
    }
    if let [mark, after, ..] = &tokens[*at..]
        && mark.text == "!"
        && after.text != "="
        && let Some(last) = path.last_mut()
    {
        last.push('!');
    }
    Named { line, path }
}

/// An import, or a part of one below `parents`: ends before the `;`, `,` or `}` that ends it.
fn import(tokens: &[Token<'_>], at: &mut usize, parents: &[String], named: &mut Vec<Named>) {
    let mut path = parents.to_vec();
    let mut line = None;
    while let Some(token) = tokens.get(*at) {
        match token.text {
            ";" | "," | "}" => break,
            "{" => {
                while tokens.get(*at).is_some_and(|token| token.text != "}") {
                    *at += 1;
                    import(tokens, at, &path, named);
                }
                *at += 1;
                return;
            }
            "as" => *at += 1,
            "self" if path.len() > parents.len() || !parents.is_empty() => line = Some(token.line),
            "::" => {}
            word => {
                path.push(word.to_owned());
                line = Some(token.line);
            }
        }
        *at += 1;
    }
    named.extend(line.map(|line| Named { line, path }));
}

/// Blanks comments and the content of strings and characters.
fn without_comments(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let (hidden, end) = hidden_at(text, at);
        for byte in &mut bytes[hidden] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Whole characters were blanked, so this loses nothing.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is hidden of the token at `at`, and where the next one begins.
fn hidden_at(text: &str, at: usize) -> (Range<usize>, usize) {
    let rest = &text[at..];
    let nothing = |len: usize| (at..at, at + len);
    if rest.starts_with("//") {
        let end = at + rest.find('\n').unwrap_or(rest.len());
        return (at..end, end);
    }
    if rest.starts_with("/*") {
        let end = at + block_comment_len(rest);
        return (at..end, end);
    }
    if let Some(len) = rest.strip_prefix('"').map(|string| quoted_len(string, b'"')) {
        return (at + 1..at + 1 + len, (at + len + 2).min(text.len()));
    }
    if let Some(character) = rest.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character.
        let mut characters = character.chars();
        let first = characters.next();
        let is_character = first == Some('\\') || characters.next() == Some('\'');
        return match is_character {
            true => {
                let len = quoted_len(character, b'\'');
                (at + 1..at + 1 + len, (at + len + 2).min(text.len()))
            }
            false => nothing(1),
        };
    }
    let is_of_word = |character: char| character.is_alphanumeric() || character == '_';
    let word_len = rest.find(|character| !is_of_word(character)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(word_len);
    if matches!(word, "r" | "br" | "cr") {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let begin = at + word_len + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let len = text[begin..].find(&close).unwrap_or(text.len() - begin);
            return (begin..begin + len, (begin + len + close.len()).min(text.len()));
        }
    }
    nothing(word_len.max(rest.chars().next().map_or(1, char::len_utf8)))
}

/// Up to the closing quote, which is not escaped.
fn quoted_len(text: &str, quote: u8) -> usize {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            byte if byte == quote => return at,
            _ => {}
        }
    }
    text.len()
}

/// Block comments nest.
fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    for at in 0..text.len() {
        match &text.as_bytes()[at..text.len().min(at + 2)] {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return at + 2,
            b"*/" => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// Blanks what follows each `#[cfg(test)]`, up to the end of its item.
fn without_tests(code: String) -> String {
    const ONLY_FOR_TESTS: &str = "#[cfg(test)]";
    let mut bytes = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(ONLY_FOR_TESTS) {
        let start = from + found;
        let mut depth = 0;
        let mut end = code.len();
        for (at, byte) in code.bytes().enumerate().skip(start) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(byte, b'}' | b';') {
                end = at + 1;
                break;
            }
        }
        for byte in &mut bytes[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("a.rs", text.as_bytes()).code()
    }

    fn paths(text: &str) -> Vec<(usize, String)> {
        named(&code(text)).into_iter().map(|named| (named.line, named.path.join("::"))).collect()
    }

    #[test]
    fn comments_and_strings_are_blank() {
        let visible: Vec<_> = [
            "a // b",
            "a /* b /* c */ d\n */ e",
            r#"f("std::fs \" x", 'y', '"', '\'', b"z")"#,
            r##"r#"a " b"# + c"##,
            "&'static str",
        ]
        .map(|text| code(text).split_whitespace().collect::<Vec<_>>().join(" "))
        .into();
        assert_eq!(
            visible,
            ["a", "a e", r#"f(" ", ' ', ' ', ' ', b" ")"#, r##"r#" "# + c"##, "&'static str"]
        );
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "/* ä\n\n*/ a\n\"é\n\" b";
        let lines: Vec<_> = code(text).lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(lines, ["", "", "a", "\"", "\" b"]);
    }

    #[test]
    fn what_is_for_tests_is_blank() {
        let text = "use a;\n#[cfg(test)]\nmod tests { fn f() { std::fs::read(); } }\nuse b;";
        assert_eq!(paths(text), [(1, "a".into()), (4, "b".into())]);
        assert_eq!(paths("#[cfg(test)]\nuse a;\nuse b;"), [(3, "b".into())]);
    }

    #[test]
    fn imports_are_spelled_out() {
        let text = "use std::{\n    fs::{self, File},\n    io as i,\n};\nuse ::c::*;";
        assert_eq!(
            paths(text),
            [
                (2, "std::fs".into()),
                (2, "std::fs::File".into()),
                (3, "std::io".into()),
                (5, "c::*".into())
            ]
        );
    }

    #[test]
    fn paths_and_macros_are_found_where_they_are_used() {
        let text = "fn f() {\n    let x = std::env::var(A);\n    println!(a); if a != b {}\n}";
        let all = paths(text);
        for expected in [(2, "std::env::var"), (3, "println!"), (3, "a")] {
            assert!(all.contains(&(expected.0, expected.1.to_owned())), "{expected:?} {all:?}");
        }
    }
}
