//! Wires the stages together: source → recording → decode → tracker → output. The only file that
//! names them all.

use std::{
    error::Error,
    fs::{File, OpenOptions, Permissions},
    io::{self, BufWriter, IsTerminal},
    ops::ControlFlow,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    cli::{
        Cli, Command, FilterArgs, LiveArgs, NoSuchThing, OutputArgs, RowsArgs, RunArgs, SourceArgs,
    },
    command::{Connections, Output, Record, Report, Select, Trace, Which, completions, explain},
    decode::decode,
    exit::Exit,
    explain::{NotKnown, look_up},
    input::Nanos,
    message::say,
    recording::{Frame, Recorder, RecordingError},
    sink::{
        Lines, Style, connection,
        report::{ReportSink, Rows},
        transition,
    },
    source::{Live, Options, Source},
    tracker::{Limits, Tracker},
};

/// How often `top` is renewed.
const TOP_INTERVAL: Duration = Duration::from_secs(1);

const CANNOT_WRITE: &str = "cannot write the output";

/// Does what the command line asks for.
pub async fn run(cli: Cli) -> Exit {
    match dispatch(cli).await {
        Ok(()) => Exit::Done,
        // Whoever read our output has seen enough.
        Err(error) if is_closed_pipe(&error) => Exit::Done,
        Err(error) => {
            say(&format!("{error:#}"));
            let is_usage = |cause: &(dyn Error + 'static)| {
                cause.is::<RecordingError>() || cause.is::<NotKnown>() || cause.is::<NoSuchThing>()
            };
            if error.chain().any(is_usage) { Exit::Usage } else { Exit::CannotRun }
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn dispatch(cli: Cli) -> Result<()> {
    let stdout = || BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match cli.command.unwrap_or(Command::Top(cli.top)) {
        Command::Top(args) => {
            let sink = ReportSink::new(stdout(), style(args.output), true, rows(args.rows));
            let output = Report::new(sink, Some(TOP_INTERVAL), None);
            let run = Run::new(args.source, RunArgs::default())?;
            Run { silent: true, ..run }.go(output).await
        }
        Command::Report(args) => {
            let sink = ReportSink::new(stdout(), style(args.output), false, rows(args.rows));
            let output = Report::new(sink, args.interval, args.count);
            let run = Run::new(args.source, args.run)?;
            Run { once: args.once, ..run }.go(output).await
        }
        Command::Trace(args) => {
            let lines = Lines::new(stdout(), style(args.output), transition::FIGURES);
            Run::new(args.source, args.run)?.go(Trace::new(lines, args.state)).await
        }
        Command::Connections(args) => {
            let lines = Lines::new(stdout(), style(args.output), connection::FIGURES);
            let which = match args.slow {
                _ if args.open => Which::Open,
                Some(at_least) => Which::Slow(at_least),
                None => Which::Ended,
            };
            let select = Select { reasons: args.reason, states: args.state, min_age: args.min_age };
            let waits = args.source.live.duration.is_some() || !args.run.command.is_empty();
            let run = Run::new(args.source, args.run)?;
            Run { once: args.open && !waits, ..run }
                .go(Connections::new(lines, which, select))
                .await
        }
        Command::Record(args) => {
            let source = SourceArgs {
                from: None,
                record: Some(args.file.clone()),
                live: args.live,
                filter: args.filter,
            };
            Run::new(source, RunArgs { command: args.command })?.go(Record::new(args.file)).await
        }
        Command::Explain(args) => {
            let found = args.words.iter().map(|word| look_up(word));
            let entries = found.collect::<Result<Vec<_>, _>>()?.concat();
            explain(&entries, args.output, &mut stdout()).context(CANNOT_WRITE)
        }
        Command::Completions(args) => completions(args.shell, &mut stdout()).context(CANNOT_WRITE),
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

fn rows(args: RowsArgs) -> Rows {
    Rows { by: args.by.into(), reasons: args.reason, states: args.state }
}

/// A run over a source, from its first frame to its last.
struct Run {
    source: Source,
    recorder: Option<(Recorder<BufWriter<File>>, PathBuf)>,
    duration: Option<Duration>,
    /// What is asked for beyond what the source leaves out already.
    filter: FilterArgs,
    /// Look at the sockets once, then end.
    once: bool,
    /// The output shows by itself that something goes on.
    silent: bool,
    command: Vec<std::ffi::OsString>,
}

impl Run {
    fn new(args: SourceArgs, run: RunArgs) -> Result<Self> {
        let LiveArgs { duration, ring_size, survey_always } = args.live;
        let recorder = args
            .record
            .map(|path| record_to(&path).map(|recorder| (recorder, path)))
            .transpose()?;
        let mut filter = args.filter;
        let source = match &args.from {
            Some(path) => Source::replay(path)?,
            None => Source::Live(Box::new(Live::attach(Options {
                ring_bytes: ring_size,
                survey_always,
                filter: std::mem::take(&mut filter).of_this_host()?,
            })?)),
        };
        let command = run.command;
        Ok(Self { source, recorder, duration, filter, once: false, silent: false, command })
    }

    async fn go(mut self, mut output: impl Output) -> Result<()> {
        let mut stop = Stop::new(matches!(self.source, Source::Live(_)), self.command.clone())?;
        if self.once {
            self.source.finish();
        }
        let mut tracker = None;
        let mut deadline = None;
        let mut ready = false;
        // What was read before damage is reported before the damage.
        let mut failure = None;
        loop {
            let frame = tokio::select! {
                frame = self.source.next() => frame,
                result = stop.asked() => {
                    result?;
                    self.source.finish();
                    continue;
                }
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            self.record(&frame)?;
            if let Frame::Session(session) = &frame {
                let start = session.clock.monotonic_ns;
                let asked = self.filter.of_recording(&session.namespaces)?;
                let filters = vec![session.filter.clone(), asked];
                tracker = Some(Tracker::new(Limits::default(), start).with_filters(filters));
                deadline = self.duration.map(|duration| start.saturating_add(nanos(duration)));
                output.begin(session);
                for limitation in &session.limitations {
                    say(limitation);
                }
                continue;
            }
            let tracker = tracker.as_mut().ok_or_else(no_session)?;
            decode(&frame, |input| tracker.ingest(&input, &mut output));
            output.settle().context(CANNOT_WRITE)?;
            if matches!(frame, Frame::Tick(_)) {
                if self.after_tick(tracker, &mut output, deadline)?.is_break() {
                    break;
                }
                if self.source.is_seeded() && !std::mem::replace(&mut ready, true) {
                    self.say_ready();
                    stop.start_command()?;
                }
            }
        }
        let Some(mut tracker) = tracker else {
            return Err(failure.unwrap_or_else(no_session));
        };
        tracker.finish();
        output.end(&mut tracker).context(CANNOT_WRITE)?;
        failure.map_or(Ok(()), Err)
    }

    /// From here on nothing is missed. Scripts wait for this line.
    fn say_ready(&self) {
        let replays = matches!(self.source, Source::Replay(_));
        if self.silent || self.once || replays || !self.command.is_empty() {
            return;
        }
        match self.duration {
            Some(duration) => {
                let duration = humantime::format_duration(duration);
                say(&format!("watching for {duration}; Ctrl-C ends it now"));
            }
            None => say("watching; Ctrl-C ends it"),
        }
    }

    fn after_tick(
        &mut self,
        tracker: &mut Tracker,
        output: &mut impl Output,
        deadline: Option<Nanos>,
    ) -> Result<ControlFlow<()>> {
        if output.tick(tracker).context(CANNOT_WRITE)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if deadline.is_some_and(|deadline| tracker.now() >= deadline) {
            match self.source {
                Source::Live(_) => self.source.finish(),
                Source::Replay(_) => return Ok(ControlFlow::Break(())),
            }
        } else if let Some(time) = [output.next_tick(), deadline].into_iter().flatten().min() {
            self.source.tick_at(time);
        }
        self.source.consider_walks(|netns| tracker.wants_walk(netns));
        Ok(ControlFlow::Continue(()))
    }

    fn record(&mut self, frame: &Frame) -> Result<()> {
        if let Some((recorder, path)) = &mut self.recorder {
            let flush = matches!(frame, Frame::Tick(_));
            let written =
                recorder.write(frame).and_then(|()| if flush { recorder.flush() } else { Ok(()) });
            written.with_context(|| format!("cannot write the recording {}", path.display()))?;
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn no_session() -> anyhow::Error {
    anyhow!(RecordingError::Damaged { offset: 8, what: "it does not begin with a session".into() })
}

/// A recording tells who talked to whom: it is for its owner's eyes, even if the file was there.
fn record_to(path: &Path) -> Result<Recorder<BufWriter<File>>> {
    let open = || {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Recorder::new(BufWriter::with_capacity(1 << 20, file))
    };
    open().with_context(|| format!("cannot write the recording {}", path.display()))
}

/// What ends a live run from outside: a signal, or the command that it watches.
struct Stop {
    signals: Option<[Signal; 2]>,
    /// A command that has not been started yet.
    command: Vec<std::ffi::OsString>,
    child: Option<Child>,
    asked: bool,
}

impl Stop {
    fn new(live: bool, command: Vec<std::ffi::OsString>) -> Result<Self> {
        let listen = || {
            Ok::<_, io::Error>([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?])
        };
        let signals = live.then(listen).transpose().context("cannot listen for signals")?;
        Ok(Self { signals, command, child: None, asked: false })
    }

    /// Starts the command, once.
    fn start_command(&mut self) -> Result<()> {
        let command = std::mem::take(&mut self.command);
        if let Some((program, args)) = command.split_first() {
            let child = tokio::process::Command::new(program).args(args).spawn();
            self.child = Some(child.with_context(|| format!("cannot run {}", program.display()))?);
        }
        Ok(())
    }

    /// Returns when the run is to end. A second signal ends it at once.
    async fn asked(&mut self) -> Result<()> {
        let Some([interrupt, terminate]) = &mut self.signals else {
            return std::future::pending().await;
        };
        let child = async {
            match &mut self.child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            status = child => {
                let status = status.context("cannot wait for the command")?;
                self.child = None;
                if !status.success() {
                    say(&format!("the command ended with {status}"));
                }
                return Ok(());
            }
        }
        if std::mem::replace(&mut self.asked, true) {
            return Err(anyhow!("interrupted a second time: ended without a report"));
        }
        Ok(())
    }
}
