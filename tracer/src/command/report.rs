//! `report`: snapshots, at the end or at intervals.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;

use crate::{
    analysis::conditions::ConditionSet,
    cli::commands::ReportArgs,
    message::{exit::Exit, stderr::warn},
    output::{consumer::Consumer, report::ReportSink, stdout},
    run::{Run, RunMode},
    trace::{
        session::Session,
        time::{Nanos, nanos},
    },
    tracker::{Snapshot, Tracker},
};

pub(crate) async fn run(args: ReportArgs, verbose: u8) -> Result<Exit> {
    let sink = ReportSink::new(stdout(), args.output.style(), args.rows.into());
    let output = Report::new(sink, args.interval, args.count);
    let mut output = output.on_trial(ConditionSet::new(args.fail_on));
    let mode = if args.once { RunMode::Once } else { RunMode::UntilSignal };
    Run::open(args.source, verbose)?.with_command(args.run).go(mode, &mut output).await?;
    Ok(output.exit())
}

/// Takes snapshots, writes them as reports, and checks the `--fail-on` conditions.
pub(crate) struct Report<W> {
    sink: ReportSink<W>,
    trial: ConditionSet,
    session: Arc<Session>,
    /// Nanoseconds between reports; `None`: one report, at the end.
    interval: Option<Nanos>,
    next_cut: Nanos,
    last_cut: Option<Nanos>,
    /// Number of reports still to write; `None`: no limit.
    left: Option<u64>,
}

impl<W: Write> Report<W> {
    pub(crate) fn new(sink: ReportSink<W>, interval: Option<Duration>, count: Option<u64>) -> Self {
        let interval = interval.map(nanos);
        Self {
            sink,
            trial: ConditionSet::default(),
            session: Arc::default(),
            interval,
            next_cut: 0,
            last_cut: None,
            left: count,
        }
    }

    /// Checks these conditions in every report.
    pub(crate) fn on_trial(self, trial: ConditionSet) -> Self {
        Self { trial, ..self }
    }

    /// The exit status that the conditions give, with the reasons on stderr.
    pub(crate) fn exit(&self) -> Exit {
        let (exit, why) = self.trial.end();
        why.iter().for_each(|why| warn(why));
        exit
    }

    fn write(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.sink.write(&self.session, snapshot)?;
        self.trial.take(&self.session, snapshot).iter().for_each(|violation| warn(violation));
        Ok(())
    }
}

impl<W: Write> Consumer for Report<W> {
    fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
        self.next_cut = session.clock.monotonic_ns.saturating_add(self.interval.unwrap_or(0));
    }

    fn tick(&mut self, tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        let Some(interval) = self.interval else {
            return Ok(ControlFlow::Continue(()));
        };
        if tracker.now() < self.next_cut {
            return Ok(ControlFlow::Continue(()));
        }
        // After a delay, intervals are skipped rather than shortened.
        let late = tracker.now() - self.next_cut;
        self.next_cut = self.next_cut.saturating_add(interval.saturating_mul(late / interval + 1));
        self.last_cut = Some(tracker.now());
        self.write(&tracker.take_snapshot())?;
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_tick(&self) -> Option<Nanos> {
        self.interval.map(|_| self.next_cut)
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let has_all = self.left == Some(0);
        let just_written = self.last_cut == Some(tracker.now());
        if has_all || just_written {
            return Ok(());
        }
        Ok(self.write(&tracker.take_snapshot())?)
    }
}
