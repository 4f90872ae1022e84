//! Renders the screen as SVG.

use std::fmt::Write;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

/// Width of a letter and height of a line in pixels.
const LETTER: (usize, usize) = (8, 17);
const MARGIN: usize = 12;

/// Renders a screen with a dark background.
pub(crate) fn svg(screen: &Buffer) -> String {
    let (columns, lines) = (usize::from(screen.area.width), usize::from(screen.area.height));
    let (width, height) = (columns * LETTER.0 + 2 * MARGIN, lines * LETTER.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1b1f24\"/>\n"
    );
    for (line, cells) in screen.content().chunks(columns).enumerate() {
        let y = MARGIN + line * LETTER.1;
        let mut column = 0;
        for run in cells.chunk_by(|one, other| one.style() == other.style()) {
            write_run(&mut svg, run, (MARGIN + column * LETTER.0, y));
            column += run.len();
        }
    }
    svg + "</svg>\n"
}

fn write_run(svg: &mut String, run: &[Cell], (x, y): (usize, usize)) {
    let text: String = run.iter().map(Cell::symbol).collect();
    let (is, width) = (|modifier| run[0].modifier.contains(modifier), run.len() * LETTER.0);
    let colour = match run[0].fg {
        Color::Red => "#ff7b72",
        _ if is(Modifier::DIM) => "#8b949e",
        _ => "#e6edf3",
    };
    let colour = if is(Modifier::REVERSED) {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" fill=\"{colour}\"/>",
            LETTER.1
        );
        "#1b1f24"
    } else {
        colour
    };
    if text.trim().is_empty() {
        return;
    }
    let weight = if is(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{}\" fill=\"{colour}\"{weight} textLength=\"{width}\" \
         xml:space=\"preserve\">{text}</text>",
        y + LETTER.1 - 4
    );
}
