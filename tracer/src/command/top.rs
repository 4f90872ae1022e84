//! `top`: the live view, or a report per second if the output is no terminal.

use std::{io::IsTerminal, time::Duration};

use anyhow::Result;

use super::report::Report;
use crate::{
    cli::commands::TopArgs,
    message::{exit::Exit, failure::explain_output},
    output::{Format, column::Reports, report::ReportSink},
    run::{Run, RunMode},
    screen::{Options, Screen},
};

/// Time between the reports of `top` when the output is not an interactive terminal.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: TopArgs, verbose: u8) -> Result<Exit> {
    let style = args.output.style();
    let has_screen = style.format == Format::Table && has_screen();
    let stdout = (!has_screen).then(|| args.source.stdout()).transpose()?;
    let run = Run::open(args.source, verbose)?;
    if let Some(stdout) = stdout {
        let sink = ReportSink::new(stdout, style, args.rows.into());
        let sink = sink.with_reports(Reports::Several);
        run.go(RunMode::Quiet, &mut Report::new(sink, Some(INTERVAL), None)).await?;
    } else {
        let mut screen = Screen::open(Options {
            selection: args.rows.into(),
            wide: style.wide,
            colours: style.terminal,
            services: args.numeric.services(),
        })
        .map_err(explain_output)?;
        run.go(RunMode::Screen(screen.closed()), &mut screen).await?;
    }
    Ok(Exit::Done)
}

/// Whether stdin and stdout are a terminal that can show the screen and read keys.
fn has_screen() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && !is_dumb
}
