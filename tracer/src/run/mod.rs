//! The run loop: takes frames from a source, writes them to a recording if there is one, decodes them,
//! applies them to the tracker, and drives the command or screen that shows the results.

#[cfg(feature = "live")]
mod live;
#[cfg(not(feature = "live"))]
#[path = "recordings_only.rs"]
mod live;
mod stop;
mod warnings;

use std::{ffi::OsString, ops::ControlFlow, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::sync::Notify;

use crate::{
    cli::{
        live::LiveArgs,
        select::FilterArgs,
        source::{RunArgs, SourceArgs},
    },
    message::{exit::Exit, failure::explain_output, patience::Tracing, stderr},
    output::consumer::Consumer,
    record::{destination::RecordingSink, errors, owner_only::Existing},
    run::stop::Stop,
    source::{Replay, Round, Source, Want},
    trace::{
        anonymize::Anonymizer,
        decode::decode,
        recording::{Frame, RecordingError},
        session::Session,
        time::{Nanos, nanos},
    },
    tracker::{Limits, Tracker},
};

/// What ends a run before its source does, and whether stderr reports that tracing has begun.
#[derive(Clone, Debug)]
pub(crate) enum RunMode {
    /// A signal ends the run. A line on stderr reports when every event is captured.
    UntilSignal,
    /// A signal ends the run. Nothing is reported, because the output shows that the trace has begun.
    Quiet,
    /// The run ends after the first scan of all sockets.
    Once,
    /// The user ends the run by quitting the screen, which notifies this. The screen outlasts the end
    /// of a recording.
    Screen(Arc<Notify>),
}

/// One run: reads a source from its first frame to its last.
pub(crate) struct Run {
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
    /// The command to run: a program and its arguments, or nothing.
    command: Vec<OsString>,
}

/// A trace that has begun.
struct Trace {
    tracker: Tracker,
    /// When the trace ends (CLOCK_MONOTONIC, nanoseconds); `None`: no limit.
    deadline: Option<Nanos>,
    ring_bytes: u32,
    is_ready: bool,
}

impl Run {
    /// Opens a recording or attaches to this host, and starts to record if `--record` is given.
    pub(crate) fn open(args: SourceArgs, verbose: u8) -> Result<Self> {
        let run = match args.from {
            Some(path) => Self::replay(path, &args.live, args.filter)?,
            None => Self::live(args.live, &args.filter, verbose)?,
        };
        Ok(match args.record {
            // Created after the source, so that a failure to attach does not overwrite an older
            // recording.
            Some(path) => {
                let existing = Existing::unless_forced(args.force);
                run.recording_to(RecordingSink::open(path, None, existing)?, None)
            }
            None => run,
        })
    }

    /// Attaches to this host.
    pub(crate) fn live(args: LiveArgs, filter: &FilterArgs, verbose: u8) -> Result<Self> {
        let (limits, duration) = (limits(&args), args.duration);
        let source = live::attach(args, filter, verbose)?;
        // The source applies the filter.
        Ok(Self::new(source, None, FilterArgs::default(), limits, duration))
    }

    fn replay(path: PathBuf, args: &LiveArgs, filter: FilterArgs) -> Result<Self> {
        let replay =
            Replay::open(&path).map_err(|error| errors::unreadable(&path, &error, false))?;
        Ok(Self::new(Box::new(replay), Some(path), filter, limits(args), args.duration))
    }

    fn new(
        source: Box<dyn Source>,
        from: Option<PathBuf>,
        filter: FilterArgs,
        limits: Limits,
        duration: Option<Duration>,
    ) -> Self {
        let (recorder, anonymizer, command) = Default::default();
        Self { source, from, recorder, anonymizer, limits, duration, filter, command }
    }

    /// Records every frame, anonymized if there is an anonymizer.
    pub(crate) fn recording_to(self, sink: RecordingSink, anonymizer: Option<Anonymizer>) -> Self {
        Self { recorder: Some(sink), anonymizer, ..self }
    }

    /// Runs the command, if there is one, once every event is captured, and ends when it exits.
    pub(crate) fn with_command(self, args: RunArgs) -> Self {
        Self { command: args.command, ..self }
    }

    /// Runs until the source ends, the output is complete, or the mode ends the run. The command that it
    /// runs does not outlive it. Returns the result of the command.
    ///
    /// # Errors
    ///
    /// The source, the recording or the output failed. If the source or the recording did, the output
    /// shows everything before that.
    pub(crate) async fn go(mut self, mode: RunMode, output: &mut dyn Consumer) -> Result<Exit> {
        let has_command = !self.command.is_empty();
        let mut stop = Stop::new(self.source.is_live(), &mode, has_command)?;
        let result = self.run(&mode, &mut stop, output).await;
        if !has_command {
            return result.map(|()| Exit::Done);
        }
        let exit = stop.end_command().await;
        result.and(exit)
    }

    async fn run(
        &mut self,
        mode: &RunMode,
        stop: &mut Stop,
        output: &mut dyn Consumer,
    ) -> Result<()> {
        if let RunMode::Once = mode {
            self.source.finish();
        }
        let tracing = self.source.is_live().then(Tracing::begin);
        let (trace, failure) = self.follow(mode, stop, output).await?;
        drop(tracing);
        // Both may go to one reader.
        output.flush().map_err(explain_output)?;
        stderr::flush();
        let Some(mut trace) = trace else {
            let no_session = || self.explain(RecordingError::no_session().into(), false);
            return Err(failure.unwrap_or_else(no_session));
        };
        self.finish(&mut trace, output)?;
        if matches!(mode, RunMode::Screen(_)) && !self.source.is_live() && !stop.is_requested() {
            stop.requested().await?;
            output.flush().map_err(explain_output)?;
        }
        let ring_bytes = self.source.is_live().then_some(trace.ring_bytes);
        let warnings = warnings::of(ring_bytes, self.limits, &trace.tracker);
        warnings.iter().for_each(|warning| output.warn(warning));
        failure.map_or(Ok(()), Err)
    }

    /// Takes all frames. Returns the trace, with the error of the source or the recording if there was one.
    async fn follow(
        &mut self,
        mode: &RunMode,
        stop: &mut Stop,
        output: &mut dyn Consumer,
    ) -> Result<(Option<Trace>, Option<anyhow::Error>)> {
        let mut trace = None;
        let mut failure = None;
        loop {
            let frame = tokio::select! {
                frame = self.source.next() => frame,
                result = stop.requested() => {
                    result?;
                    if !self.source.is_live() {
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
                    failure = Some(self.explain(error, trace.is_some()));
                    break;
                }
            };
            if let Err(error) = self.record(&frame) {
                failure = Some(error);
                self.source.finish();
            }
            match (frame, &mut trace) {
                (Frame::Session(session), _) => {
                    trace = Some(self.begin(session, output)?);
                    if self.source.is_live() {
                        live::begin();
                    }
                }
                (_, None) => break,
                (frame, Some(trace)) => {
                    if matches!(mode, RunMode::Screen(_)) && !self.source.is_live() {
                        // A recording is always ready, and signals are received only while this task waits.
                        tokio::task::yield_now().await;
                    }
                    if self.take(&frame, trace, mode, stop, output)?.is_break() {
                        break;
                    }
                }
            }
        }
        Ok((trace, failure))
    }

    fn begin(&self, session: Box<Session>, output: &mut dyn Consumer) -> Result<Trace> {
        let session = Arc::<Session>::from(session);
        let start = session.clock.monotonic_ns;
        let filter = self.filter.of_recording(&session)?;
        let tracker = Tracker::new(self.limits, start)
            .with_changes(output.wanted_changes())
            .with_filters(vec![session.filter.clone(), filter])
            .with_coverage(session.coverage);
        let tracker = if output.wants_traffic() { tracker.with_traffic() } else { tracker };
        output.begin(&session);
        session.limitations.iter().for_each(|limitation| output.warn(limitation));
        let deadline = self.duration.map(|duration| start.saturating_add(nanos(duration)));
        Ok(Trace { tracker, deadline, ring_bytes: session.ring_bytes, is_ready: false })
    }

    /// Takes the next frame. `Break`: the trace is over.
    fn take(
        &mut self,
        frame: &Frame,
        trace: &mut Trace,
        mode: &RunMode,
        stop: &mut Stop,
        output: &mut dyn Consumer,
    ) -> Result<ControlFlow<()>> {
        decode(frame, |input| trace.tracker.apply(&input));
        trace.tracker.drain_changes().for_each(|change| output.change(&change));
        output.flush().map_err(explain_output)?;
        if let Frame::Tick(tick) = frame {
            if self.after_tick(trace, tick.awaits_scans, output)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if self.source.is_seeded() && !std::mem::replace(&mut trace.is_ready, true) {
                self.report_ready(mode, output);
                stop.start(&self.command)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn after_tick(
        &mut self,
        Trace { tracker, deadline, .. }: &mut Trace,
        awaits_scans: bool,
        output: &mut dyn Consumer,
    ) -> Result<ControlFlow<()>> {
        self.source.take_messages().iter().for_each(|message| output.warn(message));
        if !awaits_scans && output.tick(tracker).map_err(explain_output)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if deadline.is_some_and(|deadline| tracker.now() >= deadline) {
            if !self.source.is_live() {
                return Ok(ControlFlow::Break(()));
            }
            self.source.finish();
        } else if !awaits_scans
            && let Some(time) = [output.next_tick(), *deadline].into_iter().flatten().min()
        {
            self.source.tick_at(time);
        }
        if let Some(time) = output.next_tick() {
            self.source.end_interval_at(time);
        }
        self.source.plan_scans(&|netns, round| match round {
            Round::Full if tracker.admits_scan(netns) => Want::SocketsAndHolders,
            Round::Update if tracker.wants_holders(netns) => Want::SocketsAndHolders,
            Round::Update if tracker.wants_scan(netns) => Want::Sockets,
            Round::Update if tracker.wants_counters(netns) => Want::Counters,
            Round::Full | Round::Update => Want::Nothing,
        });
        Ok(ControlFlow::Continue(()))
    }

    fn finish(&mut self, trace: &mut Trace, output: &mut dyn Consumer) -> Result<()> {
        self.source.take_messages().iter().for_each(|message| output.warn(message));
        trace.tracker.finish();
        trace.tracker.drain_changes().for_each(|change| output.change(&change));
        output.flush().map_err(explain_output)?;
        output.end(&mut trace.tracker).map_err(explain_output)
    }

    /// Explains an error of the source. `before`: part of the recording has been read already.
    fn explain(&self, error: anyhow::Error, before: bool) -> anyhow::Error {
        match &self.from {
            Some(path) => errors::unreadable(path, &error, before).into(),
            None => error,
        }
    }

    /// Reports that every event is captured from now on. Scripts wait for this line.
    fn report_ready(&self, mode: &RunMode, output: &mut dyn Consumer) {
        let is_announced = matches!(mode, RunMode::UntilSignal) && self.command.is_empty();
        if !is_announced || !self.source.is_live() {
            return;
        }
        match self.duration {
            Some(duration) => {
                let duration = humantime::format_duration(duration);
                output.warn(&format!("watching for {duration}; press Ctrl-C to stop earlier"));
            }
            None => output.warn("watching; press Ctrl-C to stop"),
        }
    }

    /// Writes a frame to the recording, if there is one. After an error nothing more is recorded.
    fn record(&mut self, frame: &Frame) -> Result<()> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        let anonymized = self.anonymizer.as_mut().map(|anonymizer| anonymizer.frame(frame));
        match recorder.write(anonymized.as_ref().unwrap_or(frame)) {
            Ok(starts_file) if starts_file => self.source.restart_scans(),
            Ok(_) => {}
            Err(failure) => {
                self.recorder = None;
                return Err(failure.into());
            }
        }
        Ok(())
    }
}

fn limits(args: &LiveArgs) -> Limits {
    Limits { connections: args.max_connections as usize, ..Limits::default() }
}
