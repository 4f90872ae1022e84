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
    analysis::compare::{COMPARED, Change, Comparison, RowChange, Side, SideError, compare},
    cli::{commands::CompareArgs, output::Form, rows::Grouping, source::SourceArgs},
    message::{
        escape::{escape_control, write_json},
        exit::Exit,
        failure::{Failure, cannot_write, describe},
    },
    output::{consumer::Consumer, report::RowSelection, stdout},
    run::{Run, RunMode},
    trace::session::Session,
    tracker::Tracker,
};

pub(crate) async fn run(args: CompareArgs, verbose: u8) -> Result<Exit> {
    let before = side(&args.before, args.by, verbose).await?;
    let after = side(&args.after, args.by, verbose).await?;
    write(args.output.form, &compare(&before, &after), &mut stdout()).map_err(cannot_write)?;
    Ok(Exit::Done)
}

/// Reads one side of a comparison: saved reports, or a recording, from which one report is made.
async fn side(path: &Path, by: Grouping, verbose: u8) -> Result<Side> {
    let unusable = |why: String| {
        let remedy = "give a recording, the directory of a flight recorder, or output of `synfin report -o json`";
        Failure::usage(format!("cannot compare {}", path.display()), why, remedy)
    };
    match reports_in(path).map_err(|error| unusable(describe(&error)))? {
        Some(reports) => Ok(reports.map_err(|error| unusable(error.to_string()))?),
        None => {
            let mut report =
                OneReport::new(RowSelection { by: by.into(), ..RowSelection::default() });
            let run = Run::open(SourceArgs::from_file(path.into()), verbose)?;
            run.go(RunMode::Quiet, &mut report).await?;
            Ok(report.into_side().map_err(|error| unusable(error.to_string()))?)
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

/// Makes one report of the whole trace.
struct OneReport {
    session: Arc<Session>,
    rows: RowSelection,
    side: Option<Side>,
}

impl OneReport {
    fn new(rows: RowSelection) -> Self {
        Self { session: Arc::default(), rows, side: None }
    }

    /// The report as one side of a comparison.
    ///
    /// # Errors
    ///
    /// The trace has not ended, so there is no report.
    fn into_side(self) -> Result<Side, SideError> {
        self.side.ok_or(SideError::Nothing)
    }
}

impl Consumer for OneReport {
    fn begin(&mut self, session: &Arc<Session>) {
        self.session = session.clone();
    }

    fn end(&mut self, tracker: &mut Tracker) -> Result<()> {
        self.side = Some(Side::of(&self.session, &tracker.take_snapshot(), &self.rows));
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
    let [before, after] = found.seconds;
    writeln!(out, "before: {before:.1} s; after: {after:.1} s")?;
    for (name, values) in &found.host {
        let [before, after] = values
            .each_ref()
            .map(|value| value.as_deref().map_or_else(|| "-".into(), escape_control));
        writeln!(out, "{}: {before} -> {after}", escape_control(name))?;
    }
    for row in &found.rows {
        writeln!(out)?;
        write_row(row, out)?;
    }
    for (side, _) in SIDES.iter().zip(found.lower_bounds).filter(|(_, is_lower)| *is_lower) {
        writeln!(out, "counts {side} are lower bounds: events were lost")?;
    }
    Ok(())
}

fn write_row(row: &RowChange, out: &mut impl Write) -> io::Result<()> {
    let suffix = match row.is_in {
        [true, true] => "",
        [true, false] => ", gone",
        _ => ", new",
    };
    let name = escape_control(&format!("{} {}", row.name.role, row.name.what));
    writeln!(out, "{:<34} {:>10} {:>10}", format!("{name}{suffix}"), SIDES[0], SIDES[1])?;
    for (compared, change) in COMPARED.iter().zip(&row.columns) {
        let Change { before, after } = change;
        if before.is_none() && after.is_none() {
            continue;
        }
        let cells = [before, after].map(|value| value.map_or_else(|| "-".into(), number));
        let mark = match (change.is_change(), compared.is_cost, after > before) {
            (false, ..) => "",
            (true, true, true) => "  worse",
            (true, true, false) => "  better",
            (true, false, true) => "  more",
            (true, false, false) => "  less",
        };
        writeln!(out, "  {:<32} {:>10} {:>10}{mark}", compared.title, cells[0], cells[1])?;
    }
    for (what, reasons) in [("new", &row.new_reasons), ("gone", &row.gone_reasons)] {
        if !reasons.is_empty() {
            let reasons: Vec<_> =
                reasons.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
            writeln!(out, "  {what}: {}", escape_control(&reasons.join(", ")))?;
        }
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
                let Change { before, after } = change;
                (compared.key.to_owned(), json!({ "before": before, "after": after }))
            })
            .collect();
        json!({
            "role": row.name.role,
            "row": row.name.what,
            "is_before": row.is_in[0],
            "is_after": row.is_in[1],
            "figures": columns,
            "new_reasons": counts(&row.new_reasons),
            "gone_reasons": counts(&row.gone_reasons),
        })
    });
    json!({
        "schema": SCHEMA,
        "seconds": { "before": found.seconds[0], "after": found.seconds[1] },
        "lower_bounds": { "before": found.lower_bounds[0], "after": found.lower_bounds[1] },
        "host": host,
        "rows": rows.collect::<Vec<_>>(),
    })
}
