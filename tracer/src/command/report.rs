//! `report`: statistics per port, at the end or at intervals.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;

use crate::{
    analysis::condition_set::ConditionSet,
    cli::commands::ReportArgs,
    message::{exit::Exit, failure::Failure, stderr::warn},
    output::{column::Reports, consumer::Consumer, report::ReportSink},
    run::{Run, RunMode},
    trace::{
        session::Session,
        time::{Nanos, nanos},
    },
    tracker::{Snapshot, Tracker},
};

pub(crate) async fn run(args: ReportArgs, verbose: u8) -> Result<Exit> {
    if args.once
        && let Some(rate) = args.fail_on.iter().find(|condition| condition.is_about_a_rate())
    {
        let what = format!("--fail-on '{rate}' cannot be checked with --once");
        let remedy = "trace for a while: synfin report --for 10s";
        return Err(Failure::usage(what, "a single look shows no rates", remedy).into());
    }
    let reports = if args.interval.is_some() { Reports::Several } else { Reports::Single };
    let sink = ReportSink::new(args.source.stdout()?, args.output.style(), args.rows.into());
    let sink = sink.with_reports(reports);
    let output = Report::new(sink, args.interval, args.count);
    let output = output.with_conditions(ConditionSet::new(args.fail_on));
    let mut output = Report { is_single_look: args.once, ..output };
    let mode = if args.once { RunMode::Once } else { RunMode::UntilSignal };
    let run = Run::open(args.source, verbose)?.with_command(args.run);
    let of_command = run.go(mode, &mut output).await?;
    Ok(output.exit().or_of_command(of_command))
}

/// Takes snapshots, writes them as reports, and checks the `--fail-on` conditions.
pub(crate) struct Report<W> {
    sink: ReportSink<W>,
    conditions: ConditionSet,
    session: Arc<Session>,
    /// Nanoseconds between reports; `None`: one report, at the end.
    interval: Option<Nanos>,
    next_report: Nanos,
    last_report: Option<Nanos>,
    /// Number of reports still to write; `None`: no limit.
    left: Option<u64>,
    /// Whether the report is of a single look at the sockets.
    is_single_look: bool,
}

impl<W: Write> Report<W> {
    pub(crate) fn new(sink: ReportSink<W>, interval: Option<Duration>, count: Option<u64>) -> Self {
        let interval = interval.map(nanos);
        Self {
            sink,
            conditions: ConditionSet::default(),
            session: Arc::default(),
            interval,
            next_report: 0,
            last_report: None,
            left: count,
            is_single_look: false,
        }
    }

    /// Checks these conditions in every report.
    pub(crate) fn with_conditions(self, conditions: ConditionSet) -> Self {
        Self { conditions, ..self }
    }

    /// The exit status according to the conditions. Prints the reasons on stderr.
    pub(crate) fn exit(&self) -> Exit {
        let (exit, why) = self.conditions.end();
        why.iter().for_each(|why| warn(why));
        exit
    }

    fn write(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.sink.write(&self.session, snapshot)?;
        self.conditions.evaluate(&self.session, snapshot).iter().for_each(|message| warn(message));
        Ok(())
    }
}

impl<W: Write> Consumer for Report<W> {
    fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
        self.next_report = session.clock.monotonic_ns.saturating_add(self.interval.unwrap_or(0));
    }

    fn tick(&mut self, tracker: &mut Tracker) -> Result<ControlFlow<()>> {
        let Some(interval) = self.interval else {
            return Ok(ControlFlow::Continue(()));
        };
        if tracker.now() < self.next_report {
            return Ok(ControlFlow::Continue(()));
        }
        // After a delay, intervals are skipped rather than shortened.
        let late = tracker.now() - self.next_report;
        self.next_report =
            self.next_report.saturating_add(interval.saturating_mul(late / interval + 1));
        self.last_report = Some(tracker.now());
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
        self.interval.map(|_| self.next_report)
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let has_all = self.left == Some(0);
        let just_written = self.last_report == Some(tracker.now());
        if has_all || just_written {
            return Ok(());
        }
        let mut snapshot = tracker.take_snapshot();
        snapshot.is_single_look = self.is_single_look;
        Ok(self.write(&snapshot)?)
    }
}
