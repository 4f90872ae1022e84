//! Connects the stages: source → recording → decode → tracker → output. No other file depends on
//! all of them.

#[cfg(feature = "live")]
mod live;
#[cfg(not(feature = "live"))]
#[path = "recordings_only.rs"]
mod live;
mod stop;

use std::{
    io::{self, BufWriter, IsTerminal},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use ratatui::buffer::Buffer;
use stop::Stop;
use tokio::sync::Notify;

use crate::{
    analysis::{
        compare::{Side, compare},
        conditions::ConditionSet,
        explain::look_up,
    },
    cli::{Cli, Command, FilterArgs, Grouping, OutputArgs, RowsArgs, RunArgs, SourceArgs},
    command::{
        Connections, Diagnose, OneReport, Report, Select, Trace, Which, anonymize, completions,
        explain, man, reports_in, write_comparison,
    },
    host::services::Services,
    message::{
        exit::Exit,
        failure::{Failure, describe},
        stderr::{warn, warn_lines},
    },
    output::{
        Format, Lines, Style, connection,
        consumer::Consumer,
        report::{ReportSink, Rows},
        transition,
    },
    record::{destination::RecordingSink, errors},
    screen::{self, Headless, Screen},
    source::{Replay, Source},
    tcp::coverage::Coverage,
    trace::{
        anonymize::Anonymizer,
        decode::decode,
        recording::{Frame, RecordingError},
        ring_size::{self, bytes},
        time::{Nanos, nanos},
    },
    tracker::{Events, Limits, Tracker},
};

/// Time between the reports of `top` when the output is not an interactive terminal.
const TOP_INTERVAL: Duration = Duration::from_secs(1);

/// How long `diagnose` traces if neither a duration nor a command is given.
const DIAGNOSE_FOR: Duration = Duration::from_secs(10);

/// Runs the command, and reports an error on stderr.
pub async fn run(cli: Cli) -> Exit {
    let verbose = cli.verbose > 0;
    match dispatch(cli).await {
        Ok(exit) => exit,
        // The reader closed the pipe, which is not an error.
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

/// Turns an error of writing the output into a failure. A closed pipe stays an [`io::Error`],
/// because it is not a failure.
fn cannot_write(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return error.into();
    }
    let remedy = "see where it goes to: a full disk, a terminal that is gone?";
    Failure::cannot_run("cannot write the output", describe(&error), remedy).into()
}

async fn dispatch(cli: Cli) -> Result<Exit> {
    let verbose = cli.verbose;
    let stdout = || BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match cli.command.unwrap_or(Command::Top(cli.top)) {
        Command::Top(args) => {
            let style = style(args.output);
            let run = Run::new(args.source, RunArgs::default(), verbose)?;
            if style.format == Format::Table && can_be_taken_over() {
                let options = screen::Options {
                    asked: rows(args.rows),
                    wide: style.wide,
                    colours: style.terminal,
                    names: !args.numeric,
                };
                let mut screen = Screen::open(options).map_err(cannot_write)?;
                Run { silent: true, viewer: Some(screen.closed()), ..run }.go(&mut screen).await
            } else {
                let sink = ReportSink::new(stdout(), style, rows(args.rows));
                let mut output = Report::new(sink, Some(TOP_INTERVAL), None);
                Run { silent: true, ..run }.go(&mut output).await
            }
        }
        Command::Report(args) => {
            let sink = ReportSink::new(stdout(), style(args.output), rows(args.rows));
            let output = Report::new(sink, args.interval, args.count);
            let mut output = output.on_trial(ConditionSet::new(args.fail_on));
            let run = Run::new(args.source, args.run, verbose)?;
            Run { once: args.once, ..run }.go(&mut output).await?;
            return Ok(output.exit());
        }
        Command::Trace(args) => {
            let lines = Lines::new(stdout(), style(args.output), transition::COLUMNS);
            Run::new(args.source, args.run, verbose)?.go(&mut Trace::new(lines, args.state)).await
        }
        Command::Connections(args) => {
            let lines = Lines::new(stdout(), style(args.output), connection::COLUMNS);
            let which = match args.slow {
                _ if args.open => Which::Open,
                Some(at_least) => Which::Slow(at_least),
                None => Which::Ended,
            };
            let select = Select { reasons: args.reason, states: args.state, min_age: args.min_age };
            let waits = args.source.live.duration.is_some() || !args.run.command.is_empty();
            let run = Run::new(args.source, args.run, verbose)?;
            Run { once: args.open && !waits, ..run }
                .go(&mut Connections::new(lines, which, select))
                .await
        }
        #[cfg(feature = "live")]
        Command::Record(args) => live::record(args, verbose).await,
        #[cfg(feature = "live")]
        Command::Serve(args) => live::serve(args, verbose).await,
        Command::Anonymize(args) => anonymize(&args),
        Command::Diagnose(args) => {
            let mut source = args.source;
            if source.from.is_none() && args.run.command.is_empty() {
                source.live.duration.get_or_insert(DIAGNOSE_FOR);
            }
            let run = Run::new(source, args.run, verbose)?;
            let services =
                if args.numeric { Services::default() } else { Services::of_this_host() };
            run.go(&mut Diagnose::new(stdout(), args.output, services)).await
        }
        Command::Compare(args) => {
            let before = side(&args.before, args.by, verbose).await?;
            let after = side(&args.after, args.by, verbose).await?;
            let found = compare(&before, &after);
            write_comparison(args.output, &found, &mut stdout()).map_err(cannot_write)
        }
        #[cfg(feature = "live")]
        Command::Doctor(args) => return live::doctor(args, verbose).await,
        Command::Explain(args) => {
            let found = args.words.iter().map(|word| look_up(word));
            let entries = found.collect::<Result<Vec<_>, _>>().map_err(Failure::from)?.concat();
            explain(&entries, args.output, &mut stdout()).map_err(cannot_write)
        }
        Command::Completions(args) => completions(args.shell, &mut stdout()).map_err(cannot_write),
        Command::Man(args) => man(&args.directory).map_err(cannot_write),
    }
    .map(|()| Exit::Done)
}

/// Draws the view of `top` at the end of a recording, in a terminal of `width` columns and `height`
/// rows, after `keys` have been pressed. Used for screenshots and tests.
pub async fn draw_recording(
    recording: &Path,
    keys: &str,
    width: u16,
    height: u16,
) -> Result<Buffer> {
    let options = screen::Options { colours: true, names: false, ..screen::Options::default() };
    let mut headless = Headless::new(options);
    let source = SourceArgs::from_file(recording.into());
    Run::new(source, RunArgs::default(), 0)?.go(&mut headless).await?;
    headless.press(keys);
    Ok(headless.drawn(width, height))
}

/// Reads one side of a comparison: saved reports, or a recording, from which one report is made.
async fn side(path: &Path, by: Grouping, verbose: u8) -> Result<Side> {
    let unusable = |why: String| {
        let remedy = "give a recording, a flight recorder's directory, or what `synfin report -o json` wrote";
        Failure::usage(format!("cannot compare {}", path.display()), why, remedy)
    };
    match reports_in(path).map_err(|error| unusable(describe(&error)))? {
        Some(reports) => Ok(reports.map_err(|error| unusable(error.to_string()))?),
        None => {
            let mut report = OneReport::new(Rows { by: by.into(), ..Rows::default() });
            let source = SourceArgs::from_file(path.into());
            Run::new(source, RunArgs::default(), verbose)?.go(&mut report).await?;
            Ok(report.into_side().map_err(|error| unusable(error.to_string()))?)
        }
    }
}

fn style(args: OutputArgs) -> Style {
    let colourful = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Style {
        format: args.output,
        wide: args.wide,
        no_header: args.no_header,
        terminal: io::stdout().is_terminal() && colourful,
    }
}

/// Whether stdin and stdout are a terminal that can show the screen and read keys.
fn can_be_taken_over() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb
}

fn rows(args: RowsArgs) -> Rows {
    Rows { by: args.by.into(), reasons: args.reason, states: args.state }
}

/// One run: reads a source from its first frame to its last.
struct Run {
    source: Box<dyn Source>,
    /// The recording to read; `None`: this host is traced.
    from: Option<PathBuf>,
    recorder: Option<RecordingSink>,
    /// Anonymizes each frame before it is recorded.
    anonymizer: Option<Anonymizer>,
    limits: Limits,
    duration: Option<Duration>,
    /// Filters for a recording. Empty for a live source, which applies the filters itself.
    filter: FilterArgs,
    /// Scan the sockets once, then end.
    once: bool,
    /// Do not report on stderr that tracing has started: the output shows it.
    silent: bool,
    /// Notified when the user quits the screen, which stays open at the end of a recording; `None`:
    /// there is no screen.
    viewer: Option<Arc<Notify>>,
    command: Vec<std::ffi::OsString>,
}

impl Run {
    fn new(args: SourceArgs, run: RunArgs, verbose: u8) -> Result<Self> {
        let duration = args.live.duration;
        let connections = args.live.max_connections as usize;
        let mut filter = args.filter;
        let source: Box<dyn Source> = match &args.from {
            Some(path) => {
                let replay = Replay::open(path);
                Box::new(replay.map_err(|error| errors::unreadable(path, &error, false))?)
            }
            None => live::attach(args.live, &std::mem::take(&mut filter), verbose)?,
        };
        // Created after the source, so that a failure to attach does not overwrite an older
        // recording.
        let recorder = match (args.record, args.flight) {
            (Some(path), Some(limits)) => Some(RecordingSink::flight(&path, limits)?),
            (Some(path), None) => Some(RecordingSink::file(path)?),
            (None, _) => None,
        };
        let (from, command) = (args.from, run.command);
        let limits = Limits { connections, ..Limits::default() };
        Ok(Self {
            source,
            from,
            recorder,
            anonymizer: None,
            limits,
            duration,
            filter,
            once: false,
            silent: false,
            viewer: None,
            command,
        })
    }

    async fn go(mut self, output: &mut impl Consumer) -> Result<()> {
        let replays = !self.source.is_live();
        let stays = self.viewer.is_some();
        let mut stop = Stop::new(!replays, self.viewer.take(), self.command.clone())?;
        if self.once {
            self.source.finish();
        }
        let mut tracker = None;
        let mut deadline = None;
        let mut ready = false;
        // Reported after the output of everything that preceded it.
        let mut failure = None;
        let mut ring_bytes = 0;
        loop {
            let frame = tokio::select! {
                frame = self.source.next() => frame,
                result = stop.asked() => {
                    result?;
                    if replays {
                        break;
                    }
                    self.source.finish();
                    continue;
                }
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    failure = Some(self.explain(error, tracker.is_some()));
                    break;
                }
            };
            if let Err(error) = self.record(&frame) {
                failure = Some(error);
                self.source.finish();
            }
            if let Frame::Session(session) = &frame {
                let start = session.clock.monotonic_ns;
                let asked = self.filter.of_recording(session)?;
                let filters = vec![session.filter.clone(), asked];
                let coverage = Coverage::of(&session.shown);
                let new = Tracker::new(self.limits, start).with_changes(output.wanted_changes());
                tracker = Some(new.with_filters(filters).with_coverage(coverage));
                deadline = self.duration.map(|duration| start.saturating_add(nanos(duration)));
                ring_bytes = session.ring_bytes;
                output.begin(session);
                for limitation in &session.limitations {
                    warn(limitation);
                }
                continue;
            }
            let Some(tracker) = &mut tracker else {
                break;
            };
            if replays && stays {
                // A recording is always ready, and signals are received only while this task waits.
                tokio::task::yield_now().await;
            }
            decode(&frame, |input| tracker.apply(&input));
            tracker.drain_changes().for_each(|change| output.change(&change));
            output.settle().map_err(cannot_write)?;
            if matches!(frame, Frame::Tick(_)) {
                if self.after_tick(tracker, output, deadline)?.is_break() {
                    break;
                }
                if self.source.is_seeded() && !std::mem::replace(&mut ready, true) {
                    self.report_ready();
                    stop.start_command()?;
                }
            }
        }
        let Some(mut tracker) = tracker else {
            return Err(
                failure.unwrap_or_else(|| self.explain(RecordingError::no_session().into(), false))
            );
        };
        tracker.finish();
        tracker.drain_changes().for_each(|change| output.change(&change));
        output.settle().map_err(cannot_write)?;
        output.end(&mut tracker).map_err(cannot_write)?;
        if replays && stays && !stop.asked {
            stop.asked().await?;
            output.settle().map_err(cannot_write)?;
        }
        if self.from.is_none() {
            report_lost(ring_bytes, &tracker.events());
        }
        report_evicted(self.limits, tracker.evicted());
        report_unmatched(&tracker.events());
        failure.map_or(Ok(()), Err)
    }

    /// Explains an error of the source. `before`: part of the recording has been read already.
    fn explain(&self, error: anyhow::Error, before: bool) -> anyhow::Error {
        match &self.from {
            Some(path) => errors::unreadable(path, &error, before).into(),
            None => error,
        }
    }

    /// Reports that every event is captured from now on. Scripts wait for this line.
    fn report_ready(&self) {
        let replays = !self.source.is_live();
        if self.silent || self.once || replays || !self.command.is_empty() {
            return;
        }
        match self.duration {
            Some(duration) => {
                let duration = humantime::format_duration(duration);
                warn(&format!("watching for {duration}; Ctrl-C ends it now"));
            }
            None => warn("watching; Ctrl-C ends it"),
        }
    }

    fn after_tick(
        &mut self,
        tracker: &mut Tracker,
        output: &mut impl Consumer,
        deadline: Option<Nanos>,
    ) -> Result<ControlFlow<()>> {
        if output.tick(tracker).map_err(cannot_write)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if deadline.is_some_and(|deadline| tracker.now() >= deadline) {
            if !self.source.is_live() {
                return Ok(ControlFlow::Break(()));
            }
            self.source.finish();
        } else if let Some(time) = [output.next_tick(), deadline].into_iter().flatten().min() {
            self.source.tick_at(time);
        }
        self.source.plan_scans(&|netns, anew| {
            if anew { tracker.admits_scan(netns) } else { tracker.wants_scan(netns) }
        });
        Ok(ControlFlow::Continue(()))
    }

    /// Writes a frame to the recording, if there is one. After an error nothing more is recorded.
    fn record(&mut self, frame: &Frame) -> Result<()> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        let anonymized = self.anonymizer.as_mut().map(|anonymizer| anonymizer.frame(frame));
        match recorder.write(anonymized.as_ref().unwrap_or(frame)) {
            Ok(begins) if begins => self.source.restart_scans(),
            Ok(_) => {}
            Err(failure) => {
                self.recorder = None;
                return Err(failure.into());
            }
        }
        Ok(())
    }
}

/// Reports records lost to a full ring buffer, and the size that would have held them.
fn report_lost(ring_bytes: u32, events: &Events) {
    let Events { seen, lost, .. } = events;
    if *lost == 0 {
        return;
    }
    let (ring, larger) = (u64::from(ring_bytes), ring_size::that_holds(ring_bytes, *lost));
    let remedy = if larger > ring {
        format!("--ring-size {} would have held them", bytes(larger))
    } else {
        "there is no larger one: watch less".to_owned()
    };
    let ring = bytes(ring);
    warn(&format!(
        "{lost} of {seen} records were lost, as the ring buffer of {ring} was full: {remedy}"
    ));
}

/// Reports connections that were evicted because the table was full.
fn report_evicted(limits: Limits, evicted: u64) {
    if evicted > 0 {
        let limit = limits.connections;
        warn(&format!(
            "{evicted} connections made room for others and were lost from sight, as no more than {limit} are kept: --max-connections keeps more"
        ));
    }
}

/// Reports that no record matched the filters, which are then probably wrong.
fn report_unmatched(events: &Events) {
    let Events { delivered, filtered, .. } = events;
    if *delivered == 0 && *filtered > 0 {
        warn(&format!("nothing matched the filters: they left out all {filtered} records"));
    }
}
