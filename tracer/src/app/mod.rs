//! Runs the command of the command line and maps its result to an exit status.

use std::{io, path::Path};

use anyhow::Result;
use ratatui::buffer::Buffer;

use crate::{
    cli::{Cli, Command, source::SourceArgs},
    command,
    message::{
        exit::Exit,
        failure::Failure,
        stderr::{warn, warn_lines},
    },
    run::{Run, RunMode},
    screen::{self, Headless},
};

/// Runs a command. Failures are printed on stderr.
pub async fn run(cli: Cli) -> Exit {
    let verbose = cli.verbose > 0;
    match dispatch(cli).await {
        Ok(exit) => exit,
        // The reader of the output closed the pipe: no failure.
        Err(error) if is_closed_pipe(&error) => Exit::Done,
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) => {
                warn_lines(&failure.lines(verbose));
                failure.exit
            }
            None => {
                warn(&format!("{error:#}"));
                Exit::CannotRun
            }
        },
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn dispatch(cli: Cli) -> Result<Exit> {
    let verbose = cli.verbose;
    match cli.command.unwrap_or(Command::Top(cli.top)) {
        Command::Top(args) => command::top::run(args, verbose).await,
        Command::Report(args) => command::report::run(args, verbose).await,
        Command::Trace(args) => command::trace::run(args, verbose).await,
        Command::Connections(args) => command::connections::run(args, verbose).await,
        #[cfg(feature = "live")]
        Command::Record(args) => command::record::run(args, verbose).await,
        #[cfg(feature = "live")]
        Command::Serve(args) => command::serve::run(args, verbose).await,
        Command::Anonymize(args) => command::anonymize::run(&args),
        #[cfg(feature = "live")]
        Command::Doctor(args) => command::doctor::run(args, verbose).await,
        Command::Diagnose(args) => command::diagnose::run(args, verbose).await,
        Command::Compare(args) => command::compare::run(args, verbose).await,
        Command::Explain(args) => command::explain::run(&args),
        Command::Completions(args) => command::completions::run(&args),
        Command::Man(args) => command::man::run(&args),
    }
}

/// Draws what `top` shows at the end of a recording after these keys, on a screen of `width` by
/// `height` characters, for pictures and tests.
///
/// # Errors
///
/// The recording cannot be read.
pub async fn draw_recording(
    recording: &Path,
    keys: &str,
    width: u16,
    height: u16,
) -> Result<Buffer> {
    let options = screen::Options { colours: true, ..screen::Options::default() };
    let mut headless = Headless::new(options);
    let run = Run::open(SourceArgs::from_file(recording.into()), 0)?;
    run.go(RunMode::Quiet, &mut headless).await?;
    headless.press(keys);
    Ok(headless.drawn(width, height))
}
