//! The view of the findings and the recommended changes.

use ratatui::{Frame, layout::Rect, text::Line};

use super::{lines_at, scrolled};
use crate::{
    findings::Finding,
    message::{escape::escape_control, wrap::wrap_with_label},
    screen::{model::Model, theme::Theme},
};

pub(super) fn draw(model: &Model, theme: Theme, frame: &mut Frame<'_>, area: Rect, at: usize) {
    let findings = &model.data().findings;
    if findings.is_empty() {
        let text = "no problems found in the last minute";
        return lines_at(frame, area, vec![Line::raw(""), Line::raw(text)]);
    }
    let lines =
        findings.iter().flat_map(|finding| paragraph(model, finding, theme, area.width.into()));
    scrolled(frame, area, lines.collect(), at);
}

fn paragraph(model: &Model, finding: &Finding, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let service = finding.port.and_then(|port| model.services.name(port));
    let title = format!("{}: {}", escape_control(&finding.place(service)), finding.title);
    let commands = finding.next_step.commands().map(|command| ("next", command.to_owned()));
    let fields = finding.fields().into_iter().chain(commands);
    let texts: Vec<_> =
        fields.map(|(label, text)| wrap_with_label(label, &escape_control(&text), width)).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).map(|line| Line::raw(line.to_owned()));
    let heading = [Line::raw(""), Line::styled(title, theme.alarm())];
    heading.into_iter().chain(lines).collect()
}
