//! The appearance: the terminal's own colours, which suit light and dark backgrounds; no colours;
//! or plain text to be copied.

use ratatui::style::{Color, Modifier, Style};

/// The styles of the screen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    colours: bool,
    plain: bool,
}

impl Theme {
    pub(crate) fn new(colours: bool, plain: bool) -> Self {
        Self { colours: colours && !plain, plain }
    }

    /// The style of errors and abnormal values.
    pub(crate) fn alarm(self) -> Style {
        let style = self.with(Modifier::BOLD);
        if self.colours { style.fg(Color::Red) } else { style }
    }

    pub(crate) fn heading(self) -> Style {
        self.with(Modifier::BOLD)
    }

    /// The style of less important text.
    pub(crate) fn dimmed(self) -> Style {
        self.with(Modifier::DIM)
    }

    pub(crate) fn selected(self) -> Style {
        self.with(Modifier::REVERSED)
    }

    fn with(self, modifier: Modifier) -> Style {
        if self.plain { Style::new() } else { Style::new().add_modifier(modifier) }
    }

    /// A bar with a length in eighths of a character.
    pub(crate) fn bar(self, eighths: usize) -> String {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        if self.plain {
            return "#".repeat(eighths.div_ceil(8));
        }
        "█".repeat(eighths / 8) + PARTS[eighths % 8]
    }

    /// A sparkline: values over time as characters of different heights.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "floats saturate, and a height is not negative"
    )]
    pub(crate) fn sparkline(self, values: &[f64]) -> String {
        const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const PLAIN: [char; 8] = ['.', '.', ':', ':', '-', '=', '+', '#'];
        let heights = if self.plain { PLAIN } else { HEIGHTS };
        let max = values.iter().copied().fold(0.0, f64::max);
        let height = |&value: &f64| {
            if value <= 0.0 {
                return ' ';
            }
            let part = (value / max * 8.0).ceil() as usize;
            heights[part.clamp(1, 8) - 1]
        };
        values.iter().map(height).collect()
    }

    /// The sign, or its plain replacement.
    pub(crate) fn sign(self, sign: &'static str, plain: &'static str) -> &'static str {
        if self.plain { plain } else { sign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_sparklines_are_proportional_to_values() {
        let theme = Theme::new(true, false);
        assert_eq!([0, 1, 8, 20].map(|eighths| theme.bar(eighths)), ["", "▏", "█", "██▌"]);
        assert_eq!(theme.sparkline(&[0.0, 1.0, 4.0, 8.0]), " ▁▄█");
        assert_eq!(theme.sparkline(&[]), "");
        let plain = Theme::new(true, true);
        assert_eq!((plain.bar(20).as_str(), plain.alarm()), ("###", Style::new()));
    }
}
