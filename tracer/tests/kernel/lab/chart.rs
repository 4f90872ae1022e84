//! Charts as a picture, in the manner of Grafana's panels.

use std::fmt::Write;

/// A panel, and the plot in it, in pixels.
const PANEL: (f64, f64) = (488.0, 252.0);
const GAP: f64 = 8.0;
const PLOT: Area = Area { left: 58.0, top: 38.0, right: 474.0, bottom: 186.0 };
const COLUMNS: usize = 2;

/// Where the legend begins, and how high a line of it is.
const LEGEND: (f64, f64) = (222.0, 17.0);
/// As wide as a letter is at most on average.
const LETTER: f64 = 6.4;

const COLOURS: [&str; 12] = [
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#5ac8c8", "#ffa6b0",
    "#c8f2c2", "#a58b5b", "#5794f2", "#d8d9da",
];
const WARNING: &str = "#f2495c";

/// A panel's figures.
pub(crate) struct Chart {
    pub(crate) title: String,
    /// As Grafana calls it.
    pub(crate) unit: String,
    pub(crate) is_stacked: bool,
    pub(crate) is_logarithmic: bool,
    /// Where the axis ends, if it is not up to the figures.
    pub(crate) most: Option<f64>,
    /// From where on it is too much.
    pub(crate) limit: Option<f64>,
    pub(crate) lines: Vec<Line>,
}

/// A name and values by time.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) is_dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

/// All of them in one picture, of the same time, with a value every `step` seconds. Dark on every
/// page.
pub(crate) fn charts(charts: &[Chart], time: (f64, f64), step: f64) -> String {
    let rows = charts.len().div_ceil(COLUMNS) as f64;
    let width = COLUMNS as f64 * (PANEL.0 + GAP) + GAP;
    let height = rows * (PANEL.1 + GAP) + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"DejaVu Sans, Verdana, Segoe UI, Helvetica, sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#111217\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        let (row, column) = ((index / COLUMNS) as f64, (index % COLUMNS) as f64);
        let (x, y) = (GAP + column * (PANEL.0 + GAP), GAP + row * (PANEL.1 + GAP));
        // Writing to a string does not fail.
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        chart.draw(&mut svg, time, step);
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

impl Chart {
    fn draw(&self, svg: &mut String, time: (f64, f64), step: f64) {
        let lines = self.stacked();
        let axis = Axis::of(self, &lines);
        let x = |at: f64| PLOT.left + (at - time.0) / (time.1 - time.0) * (PLOT.right - PLOT.left);
        let y = |value: f64| PLOT.bottom - axis.share(value) * (PLOT.bottom - PLOT.top);
        let (width, height) = PANEL;
        let _ = writeln!(
            svg,
            "<rect width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"#1b1f24\" stroke=\"#2d333b\"/>\n\
             <text x=\"14\" y=\"23\" fill=\"#e6edf3\" font-size=\"13\" font-weight=\"bold\">{}</text>",
            escaped(&self.title)
        );
        for &tick in &axis.ticks {
            let (y, text) = (y(tick), formatted(tick, &self.unit));
            rule(svg, y, "#2d333b", "");
            label(svg, PLOT.left - 6.0, y + 4.0, "end", &text);
        }
        for seconds in time_ticks(time.1 - time.0) {
            let text = format!("{}:{:02}", seconds / 60, seconds % 60);
            label(svg, x(time.0 + f64::from(seconds)), PLOT.bottom + 16.0, "middle", &text);
        }
        for (index, line) in lines.iter().enumerate().rev() {
            let colour = COLOURS[index % COLOURS.len()];
            for run in line.points.chunk_by(|one, next| next.0 - one.0 < 1.5 * step) {
                let points: Vec<_> = run
                    .iter()
                    .map(|&(at, value)| format!("{:.1} {:.1}", x(at), y(value)))
                    .collect();
                let path = points.join(" L");
                if !line.is_dashed {
                    let opacity = if self.is_stacked { 0.35 } else { 0.07 };
                    let (first, last) = (x(run[0].0), x(run[run.len() - 1].0));
                    let bottom = PLOT.bottom;
                    let _ = writeln!(
                        svg,
                        "<path d=\"M{first:.1} {bottom} L{path} L{last:.1} {bottom} Z\" \
                         fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"
                    );
                }
                let dashes = if line.is_dashed { " stroke-dasharray=\"6 4\"" } else { "" };
                let _ = writeln!(
                    svg,
                    "<path d=\"M{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
                     stroke-linejoin=\"round\" stroke-linecap=\"round\"{dashes}/>"
                );
            }
        }
        if let Some(limit) = self.limit.filter(|limit| axis.share(*limit) < 1.0) {
            rule(svg, y(limit), WARNING, " stroke-dasharray=\"4 4\"");
        }
        legend(svg, &lines);
    }

    /// The lines as they are drawn: each upon those before it, if they are put upon each other.
    fn stacked(&self) -> Vec<Line> {
        let below = |index: usize, at: f64| -> f64 {
            let upon = if self.is_stacked { &self.lines[..index] } else { &[] };
            let there = upon.iter().flat_map(|line| &line.points).filter(|point| point.0 == at);
            there.map(|point| point.1).sum()
        };
        let lines = self.lines.iter().enumerate().map(|(index, line)| {
            let points = line.points.iter().filter(|point| point.1.is_finite());
            Line {
                name: line.name.clone(),
                is_dashed: line.is_dashed,
                points: points.map(|&(at, value)| (at, value + below(index, at))).collect(),
            }
        });
        lines.collect()
    }
}

fn rule(svg: &mut String, y: f64, colour: &str, dashes: &str) {
    let Area { left, right, .. } = PLOT;
    let _ = writeln!(
        svg,
        "<path d=\"M{left} {y:.1} H{right}\" stroke=\"{colour}\" fill=\"none\"{dashes}/>"
    );
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#9aa4af\">{text}</text>"
    );
}

fn legend(svg: &mut String, lines: &[Line]) {
    let (mut x, mut y) = (14.0, LEGEND.0);
    for (index, line) in lines.iter().enumerate() {
        let width = 20.0 + LETTER * line.name.chars().count() as f64 + 14.0;
        if x + width > PANEL.0 {
            (x, y) = (14.0, y + LEGEND.1);
        }
        let colour = COLOURS[index % COLOURS.len()];
        let dashes = if line.is_dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {:.1} h14\" stroke=\"{colour}\" stroke-width=\"3\"{dashes}/>",
            y - 4.0
        );
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"#ccd3da\">{}</text>",
            x + 20.0,
            escaped(&line.name)
        );
        x += width;
    }
    assert!(y < PANEL.1, "there is no room for so many names: {}", lines.len());
}

/// The axis of values.
struct Axis {
    ticks: Vec<f64>,
    is_logarithmic: bool,
}

impl Axis {
    fn of(chart: &Chart, lines: &[Line]) -> Self {
        let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
        let highest = chart.most.unwrap_or_else(|| values().fold(0.0, f64::max));
        if chart.is_logarithmic {
            let lowest = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
            let decades = lowest.log10().floor() as i32..=highest.log10().ceil() as i32;
            let ticks = decades.map(|decade| 10.0_f64.powi(decade)).collect();
            return Self { ticks, is_logarithmic: true };
        }
        // Of sockets, there are no halves.
        let least = if chart.unit == "short" { 1.0 } else { 0.0 };
        let step = round_step(highest.max(1e-9) / 4.0).max(least);
        let count = (highest / step - 1e-9).ceil().max(1.0) as u32;
        let ticks = (0..=count).map(|tick| f64::from(tick) * step).collect();
        Self { ticks, is_logarithmic: false }
    }

    /// From 0 at the bottom to 1 at the top.
    fn share(&self, value: f64) -> f64 {
        let (first, last) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        if self.is_logarithmic {
            (value.max(first).log10() - first.log10()) / (last.log10() - first.log10())
        } else {
            (value - first) / (last - first)
        }
    }
}

/// 1, 2 or 5, or these with zeros: not less than that.
fn round_step(least: f64) -> f64 {
    let decade = 10.0_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    steps
        .map(|step| step * decade)
        .into_iter()
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(decade)
}

fn time_ticks(seconds: f64) -> impl Iterator<Item = u32> {
    let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300];
    let step = steps.into_iter().find(|step| f64::from(*step) * 7.0 >= seconds).unwrap_or(600);
    (0..=seconds as u32).step_by(step as usize)
}

/// A value with its unit, as one of Grafana's says it.
fn formatted(value: f64, unit: &str) -> String {
    let number = |value: f64| {
        // Of what is between, floating point is not to be seen.
        let rounded = (value * 1000.0).round() / 1000.0;
        rounded.to_string()
    };
    match unit {
        "s" if value == 0.0 => "0".to_owned(),
        "s" if value < 0.999e-3 => format!("{} µs", number(value * 1e6)),
        "s" if value < 0.999 => format!("{} ms", number(value * 1e3)),
        "s" => format!("{} s", number(value)),
        "cps" => format!("{}/s", number(value)),
        "percentunit" => format!("{}%", number(value * 100.0)),
        _ => number(value),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
