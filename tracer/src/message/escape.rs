//! Escapes untrusted text. Process names, cgroup paths and recordings may contain any characters,
//! including sequences that control a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{
    Serializer, Value,
    ser::{CompactFormatter, Formatter},
};

/// Replaces control characters, and invisible characters such as those that change the direction of
/// text, with Rust escapes (`\u{1b}`), so that the text cannot control a terminal.
pub fn escape_control(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        if is_control_or_bidi(character) {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Writes compact JSON in which the same characters are escaped. JSON permits that in strings, so a
/// parser reads the same value.
pub(crate) fn write_json(out: &mut impl Write, value: &Value) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))?;
    Ok(())
}

fn is_control_or_bidi(character: char) -> bool {
    let is_bidi_or_format = matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    character.is_control() || is_bidi_or_format
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        for part in fragment.split_inclusive(is_control_or_bidi) {
            let mut plain = part.chars();
            match plain.next_back().filter(|&last| is_control_or_bidi(last)) {
                Some(last) => {
                    CompactFormatter.write_string_fragment(out, plain.as_str())?;
                    // All of these characters fit in four hexadecimal digits.
                    write!(out, "\\u{:04x}", u32::from(last))?;
                }
                None => CompactFormatter.write_string_fragment(out, part)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidi_characters_are_escaped() {
        assert_eq!(
            escape_control("a\x1b[31m\n\u{202e}\u{61c}é"),
            "a\\u{1b}[31m\\n\\u{202e}\\u{61c}é"
        );
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = Value::from("a\x1b\u{7f}b\u{9b}31m\u{202e}é\"\\\n");
        let mut json = Vec::new();
        write_json(&mut json, &value).unwrap();
        let json = String::from_utf8(json).unwrap();
        assert_eq!(json, r#""a\u001b\u007fb\u009b31m\u202eé\"\\\n""#);
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
    }
}
