//! `compare`: the differences between two recordings or reports.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    sync::Arc,
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    analysis::compare::{
        COMPARED, Comparison, FindingChange, FindingVerdict, RowChange, Side, SideError, Verdict,
        compare, compare_findings,
    },
    cli::{commands::CompareArgs, output::Form, source::SourceArgs},
    findings::{Finding, Severity, Traffic, diagnose},
    message::{
        escape::{escape_control, write_json},
        exit::Exit,
        failure::{Failure, cannot_write, describe},
        stderr::warn,
        wrap::{width, wrap_with_label},
    },
    output::{
        column::to_object, consumer::Consumer, finding, report::RowSelection, stdout::Stdout,
    },
    run::{Run, RunMode},
    trace::session::Session,
    tracker::Tracker,
};

pub(crate) async fn run(args: CompareArgs, verbose: u8) -> Result<Exit> {
    let before = observed(&args.before, &args, verbose).await?;
    let after = observed(&args.after, &args, verbose).await?;
    let mut found = compare(&before.side, &after.side);
    let findings = before.findings.zip(after.findings);
    found.findings = findings.map(|(before, after)| compare_findings(before, after));
    write(args.output.form, &found, &mut Stdout::direct()).map_err(cannot_write)?;
    let Some(least) = args.fail_on else { return Ok(Exit::Done) };
    if worst(&found).is_some_and(|worst| worst >= least) {
        return Ok(Exit::Violated);
    }
    let is_empty = |side: usize| found.rows.iter().all(|row| row.connections[side] == 0);
    let why = match [is_empty(0), is_empty(1), found.lower_bounds.contains(&true)] {
        [true, ..] => "no connection was observed before",
        [_, true, _] => "no connection was observed after",
        [.., true] => "events were lost",
        _ => return Ok(Exit::Done),
    };
    warn(&format!("inconclusive: {why}"));
    Ok(Exit::Inconclusive)
}

/// How urgent the worst change is; `None` if nothing has become worse.
fn worst(found: &Comparison) -> Option<Severity> {
    let severities = found.rows.iter().filter_map(|row| match row.verdict {
        _ if row.fails_more => Some(Severity::Critical),
        Verdict::Worse => Some(Severity::Warning),
        _ => None,
    });
    let findings = found.findings.iter().flatten().filter_map(FindingChange::severity);
    severities.chain(findings).max()
}

/// One side of a comparison.
struct Observed {
    side: Side,
    /// `None` if it is a report, which has none.
    findings: Option<Vec<Finding>>,
}

/// Reads one side of a comparison: saved reports, or a recording, from which one report is made.
async fn observed(path: &Path, args: &CompareArgs, verbose: u8) -> Result<Observed> {
    let unusable = |why: String| {
        let remedy = "give a recording, the directory of a flight recorder, or output of `synfin report -o json`";
        Failure::usage(format!("cannot compare {}", path.display()), why, remedy)
    };
    match reports_in(path).map_err(|error| unusable(describe(&error)))? {
        Some(_) if !args.filter.is_empty() => {
            let what = format!("cannot filter {}", path.display());
            let why = "it is a report, in which connections are no longer apart";
            let remedy = "compare recordings, or give the filters to `synfin report`";
            Err(Failure::usage(what, why, remedy).into())
        }
        Some(reports) => {
            let side = reports.map_err(|error| unusable(error.to_string()))?;
            Ok(Observed { side, findings: None })
        }
        None => {
            let rows = RowSelection { by: args.by.into(), ..RowSelection::default() };
            let mut report = OneReport::new(path, rows);
            let source = SourceArgs::from_file(path.into()).filtered(args.filter.clone());
            Run::open(source, verbose)?.go(RunMode::Quiet, &mut report).await?;
            let nothing = || unusable(SideError::Nothing.to_string());
            Ok(report.observed.ok_or_else(nothing)?)
        }
    }
}

/// Version of the JSON format.
const SCHEMA: u64 = 1;

/// Reads saved reports from a file. Returns `None` if `path` is a directory, such as that of a
/// flight recorder, or a file that is not JSON, such as a recording.
fn reports_in(path: &Path) -> io::Result<Option<Result<Side, SideError>>> {
    if fs::metadata(path)?.is_dir() {
        return Ok(None);
    }
    let mut file = BufReader::new(File::open(path)?);
    // A recording may be large, so only its beginning is read to detect the format.
    let start = file.fill_buf()?;
    if start.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(Side::of_lines(&String::from_utf8_lossy(&bytes))))
}

/// Makes one report of a whole recording.
struct OneReport<'a> {
    recording: &'a Path,
    session: Arc<Session>,
    rows: RowSelection,
    /// `None` until the trace has ended.
    observed: Option<Observed>,
}

impl<'a> OneReport<'a> {
    fn new(recording: &'a Path, rows: RowSelection) -> Self {
        Self { recording, session: Arc::default(), rows, observed: None }
    }
}

impl Consumer for OneReport<'_> {
    fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        let snapshot = tracker.take_snapshot();
        let side = Side::of(&self.session, &snapshot, &self.rows);
        let traffic = Traffic::Recording(self.recording);
        let findings = diagnose(&self.session, &snapshot).into_iter();
        let findings = Some(findings.map(|finding| finding.of_traffic(&traffic)).collect());
        self.observed = Some(Observed { side, findings });
        Ok(())
    }
}

/// Writes the differences.
fn write(form: Form, found: &Comparison, out: &mut impl Write) -> io::Result<()> {
    match form {
        Form::Text => write_text(found, out)?,
        Form::Json => {
            write_json(out, &to_json(found))?;
            writeln!(out)?;
        }
    }
    out.flush()
}

const SIDES: [&str; 2] = ["before", "after"];

fn write_text(found: &Comparison, out: &mut impl Write) -> io::Result<()> {
    let findings = found.findings.as_deref().unwrap_or_default();
    findings.iter().try_for_each(|change| write_finding(change, out))?;
    for (name, values) in &found.host {
        let [before, after] = values
            .each_ref()
            .map(|value| value.as_deref().map_or_else(|| "-".into(), escape_control));
        writeln!(out, "{}: {before} -> {after}", escape_control(name))?;
    }
    for row in found.rows.iter().filter(|row| row.verdict != Verdict::Same) {
        write_row(row, out)?;
    }
    for (side, _) in SIDES.iter().zip(found.lower_bounds).filter(|(_, is_lower)| *is_lower) {
        writeln!(out, "counts {side} are lower bounds: events were lost")?;
    }
    let rows = counts(&Verdict::NAMES, found.rows.iter().map(|row| row.verdict));
    let rows = rows.unwrap_or_else(|| "none".to_owned());
    let findings = counts(&FindingVerdict::NAMES, findings.iter().map(|change| change.verdict));
    let findings = findings.map_or_else(String::new, |counts| format!("; findings: {counts}"));
    let [before, after] = found.seconds;
    writeln!(out, "rows: {rows}{findings} ({before:.1} s before, {after:.1} s after)")
}

/// How often each verdict occurs: `1 worse, 3 unchanged`; `None` if none does.
fn counts<V: Copy + PartialEq>(
    names: &[(V, &str)],
    verdicts: impl Iterator<Item = V> + Clone,
) -> Option<String> {
    let count = |verdict: V| verdicts.clone().filter(|it| *it == verdict).count();
    let counts = names.iter().map(|&(verdict, name)| (count(verdict), name));
    let counts = counts.filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, name)| format!("{count} {name}")).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

fn write_finding(change: &FindingChange, out: &mut impl Write) -> io::Result<()> {
    let FindingChange { finding, verdict, .. } = change;
    if *verdict == FindingVerdict::Same {
        return Ok(());
    }
    writeln!(out, "{} finding: {}", verdict.name(), escape_control(&finding.headline(None)))?;
    if *verdict == FindingVerdict::Gone {
        return Ok(());
    }
    let seen = wrap_with_label("seen", &escape_control(&finding.seen), width());
    out.write_all(seen.as_bytes())
}

fn write_row(row: &RowChange, out: &mut impl Write) -> io::Result<()> {
    let RowChange { verdict, connections, bad, .. } = row;
    let owner = row.owner.as_ref().filter(|owner| **owner != row.name.what);
    let owner = owner.map_or_else(String::new, |owner| format!(" ({owner})"));
    let name = escape_control(&format!("{} {}{owner}", row.name.role, row.name.what));
    let (word, side) = match verdict {
        Verdict::New | Verdict::NewAndBad => ("new", 1),
        Verdict::Gone => ("gone", 0),
        Verdict::Worse | Verdict::Other | Verdict::Same => {
            writeln!(out, "{name:<34} {:>10} {:>10}", SIDES[0], SIDES[1])?;
            return write_changes(row, out);
        }
    };
    writeln!(out, "{name} is {word}: connections {}, bad {}", connections[side], bad[side])
}

fn write_changes(row: &RowChange, out: &mut impl Write) -> io::Result<()> {
    let columns = COMPARED.iter().zip(&row.columns);
    let columns = columns.map(|(it, change)| (it.title.to_owned(), change, it.is_cost));
    // Reasons come from a file, too.
    let reasons = row.reasons.iter().map(|(reason, change, is_bad)| {
        (format!("{} /1000", escape_control(reason)), change, *is_bad)
    });
    for (title, change, is_cost) in columns.chain(reasons) {
        let growth = change.growth();
        let mark = match (growth > 0.0, is_cost) {
            _ if growth == 0.0 => continue,
            (true, true) => "worse",
            (false, true) => "better",
            (true, false) => "more",
            (false, false) => "less",
        };
        let cells = change.values().map(|value| value.map_or_else(|| "-".into(), number));
        writeln!(out, "  {title:<32} {:>10} {:>10}  {mark}", cells[0], cells[1])?;
    }
    Ok(())
}

/// Formats a number: with one decimal if it is below 100 and not whole, otherwise with none.
fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn to_json(found: &Comparison) -> Value {
    let both = |values: &[Option<String>; 2]| json!({ "before": values[0], "after": values[1] });
    let host: serde_json::Map<_, _> =
        found.host.iter().map(|(name, values)| (name.clone(), both(values))).collect();
    let counts = |reasons: &[(String, u64)]| -> serde_json::Map<_, _> {
        reasons.iter().map(|(reason, count)| (reason.clone(), json!(count))).collect()
    };
    let rows = found.rows.iter().map(|row| {
        let columns: serde_json::Map<_, _> = COMPARED
            .iter()
            .zip(&row.columns)
            .map(|(compared, change)| {
                let ([before, after], changed) = (change.values(), change.growth() != 0.0);
                let change = json!({ "before": before, "after": after, "changed": changed });
                (compared.key.to_owned(), change)
            })
            .collect();
        json!({
            "role": row.name.role,
            "row": row.name.what,
            "owner": row.owner,
            "verdict": Verdict::NAMES.iter().find(|(it, _)| *it == row.verdict).map(|(_, name)| name),
            "bad": { "before": row.bad[0], "after": row.bad[1] },
            "is_before": row.is_in[0],
            "is_after": row.is_in[1],
            "figures": columns,
            "new_reasons": counts(&row.new_reasons),
            "gone_reasons": counts(&row.gone_reasons),
        })
    });
    let findings = found.findings.as_ref().map(|findings| {
        let findings = findings.iter().map(|change| {
            let mut object = to_object(finding::COLUMNS, &change.finding);
            object.insert("verdict".into(), change.verdict.name().into());
            let [before, after] = change.counts;
            object.insert("counts".into(), json!({ "before": before, "after": after }));
            Value::Object(object)
        });
        findings.collect::<Vec<_>>()
    });
    json!({
        "schema": SCHEMA,
        "seconds": { "before": found.seconds[0], "after": found.seconds[1] },
        "lower_bounds": { "before": found.lower_bounds[0], "after": found.lower_bounds[1] },
        "host": host,
        "findings": findings,
        "rows": rows.collect::<Vec<_>>(),
    })
}
