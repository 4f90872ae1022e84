//! JSON schemas of the output, generated from the columns, and real output validated against them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use synfin::{
    analysis::{
        compare::{COMPARED, FindingVerdict, Verdict},
        diagnosis::FINDINGS,
        registries::registries,
    },
    output::{column::ColumnInfo, column_kind::ColumnKind, report::ROWS},
    tcp::close_reason::CloseReason,
};

use super::schema::{assert_valid, validator};

/// The schema of each command's objects.
pub(crate) fn all() -> Vec<(PathBuf, String)> {
    let [row, report, connection, transition, finding, diagnosis] =
        registries().map(|registry| registry.columns);
    let report_columns = report;
    let mut report = object(&report_columns);
    add(
        &mut report,
        ROWS,
        json!({
            "description": "One row per role and service port.",
            "type": "array",
            "items": object(&row),
        }),
    );
    let events = report_columns.iter().filter(|info| info.key.starts_with("events."));
    let mut diagnosis = object(&diagnosis.iter().chain(events).copied().collect::<Vec<_>>());
    add(
        &mut diagnosis,
        FINDINGS,
        json!({
            "description": "The findings, most severe first.",
            "type": "array",
            "items": object(&finding),
        }),
    );
    [
        (
            "comparison.json",
            "The differences of two reports: `synfin compare -o json`",
            comparison(&finding),
        ),
        ("diagnosis.json", "The findings: `synfin diagnose -o json`", diagnosis),
        ("report.json", "A report: `synfin report -o json`", report),
        ("connection.json", "A connection: `synfin connections -o json`", object(&connection)),
        ("transition.json", "A transition: `synfin trace -o json`", object(&transition)),
    ]
    .map(|(file, title, object)| {
        let mut schema = Map::new();
        schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        schema.insert("title".into(), title.into());
        schema.insert("$comment".into(), "Generated from the code by `cargo xtask docs`.".into());
        schema.extend(object.as_object().expect("an object").clone());
        let text = serde_json::to_string_pretty(&schema).expect("JSON");
        (Path::new("docs/schema").join(file), text + "\n")
    })
    .into()
}

/// The values of both sides.
fn both(kind: &[&str]) -> Value {
    let side = json!({ "type": kind });
    let mut sides = empty();
    for (name, what) in [("before", "Before."), ("after", "After.")] {
        let mut side = side.clone();
        side["description"] = what.into();
        add(&mut sides, name, side);
    }
    sides
}

/// A finding with these columns, before and after.
fn compared_finding(columns: &[ColumnInfo]) -> Value {
    let mut finding = object(columns);
    let verdicts: Vec<_> = FindingVerdict::NAMES.map(|(_, name)| name).into();
    let verdict = json!({ "description": "What has become of it.", "enum": verdicts });
    add(&mut finding, "verdict", verdict);
    let mut counts = both(&["integer", "null"]);
    counts["description"] = "count on each side; null where it is not found.".into();
    add(&mut finding, "counts", counts);
    finding
}

/// Columns before and after, for each side that has a value.
fn comparison(finding: &[ColumnInfo]) -> Value {
    let mut columns = empty();
    for compared in COMPARED {
        let mut change = both(&["number", "null"]);
        change["description"] = compared.title.into();
        let changed = "Whether it has changed by more than chance explains.";
        add(&mut change, "changed", json!({ "description": changed, "type": "boolean" }));
        add(&mut columns, compared.key, change);
    }
    // Only counts that are not zero.
    let reasons = json!({
        "type": "object",
        "propertyNames": { "enum": (CloseReason::NAMES.all)() },
        "additionalProperties": { "type": "integer", "minimum": 1 },
    });
    let mut row = empty();
    add(&mut row, "role", json!({ "type": "string" }));
    add(
        &mut row,
        "row",
        json!({ "description": "The key of the row, depending on `--by`.", "type": "string" }),
    );
    add(
        &mut row,
        "owner",
        json!({ "description": "The process that owns the sockets.", "type": ["string", "null"] }),
    );
    let verdicts: Vec<_> = Verdict::NAMES.map(|(_, name)| name).into();
    let verdict = json!({ "description": "What has become of the row.", "enum": verdicts });
    add(&mut row, "verdict", verdict);
    let mut bad = both(&["integer"]);
    bad["description"] = "Connections that failed or ended abnormally.".into();
    add(&mut row, "bad", bad);
    for side in ["is_before", "is_after"] {
        add(
            &mut row,
            side,
            json!({ "description": "Whether the row exists on this side.", "type": "boolean" }),
        );
    }
    add(&mut row, "figures", columns);
    for which in ["new_reasons", "gone_reasons"] {
        add(&mut row, which, reasons.clone());
    }
    let mut comparison = empty();
    add(
        &mut comparison,
        "schema",
        json!({ "description": "Version of this format.", "type": "integer" }),
    );
    add(&mut comparison, "seconds", both(&["number"]));
    add(&mut comparison, "lower_bounds", both(&["boolean"]));
    add(
        &mut comparison,
        "host",
        json!({
            "description": "Differences between the hosts: kernel, version, settings.",
            "type": "object",
            "additionalProperties": both(&["string", "null"]),
        }),
    );
    add(
        &mut comparison,
        "findings",
        json!({
            "description": "The findings of either side, new ones first, each as it is after; as it was before if it is gone. Null if a side is a report, which has none.",
            "type": ["array", "null"],
            "items": compared_finding(finding),
        }),
    );
    add(
        &mut comparison,
        "rows",
        json!({
            "description": "One object per row, the largest deterioration first.",
            "type": "array",
            "items": row,
        }),
    );
    comparison
}

/// An object with exactly these columns, each at its path.
fn object(columns: &[ColumnInfo]) -> Value {
    let mut object = empty();
    for info in columns {
        let mut path: Vec<_> = info.key.split('.').collect();
        let name = path.pop().expect("a column has a name");
        let mut place = &mut object;
        for part in path {
            if place["properties"].get(part).is_none() {
                add(place, part, empty());
            }
            place = &mut place["properties"][part];
        }
        add(place, name, column(info));
    }
    object
}

fn empty() -> Value {
    json!({ "type": "object", "properties": {}, "required": [], "additionalProperties": false })
}

fn add(object: &mut Value, name: &str, schema: Value) {
    object["properties"][name] = schema;
    object["required"].as_array_mut().expect("a list").push(name.into());
}

fn column(info: &ColumnInfo) -> Value {
    let mut schema = json!({ "description": description(info) });
    let kind = kind(info.kind);
    let parts = schema.as_object_mut().expect("an object");
    parts.extend(kind.as_object().expect("an object").clone());
    if info.nullable {
        parts["type"] = json!([parts["type"], "null"]);
        if let Some(words) = parts.get_mut("enum") {
            words.as_array_mut().expect("a list").push(Value::Null);
        }
    }
    schema
}

fn description(info: &ColumnInfo) -> String {
    match (info.kind, info.kind.unit()) {
        (ColumnKind::Count(_), _) | (_, None) => info.help.to_owned(),
        (_, Some(unit)) => format!("{} Unit: {unit}.", info.help),
    }
}

fn kind(kind: ColumnKind) -> Value {
    match kind {
        ColumnKind::Version(version) => json!({ "type": "integer", "const": version }),
        ColumnKind::Number | ColumnKind::Count(_) | ColumnKind::Micros => {
            json!({ "type": "integer", "minimum": 0 })
        }
        ColumnKind::Float(_) | ColumnKind::Seconds => json!({ "type": "number", "minimum": 0 }),
        ColumnKind::Bool => json!({ "type": "boolean" }),
        ColumnKind::Word(words) => json!({ "type": "string", "enum": (words.all)() }),
        ColumnKind::Text => json!({ "type": "string" }),
        ColumnKind::Address => json!({
            "type": "string",
            "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }],
        }),
        ColumnKind::Time => json!({ "type": "string", "format": "date-time" }),
        ColumnKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        ColumnKind::TextByName => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        ColumnKind::Counts(words) => {
            let mut counts = empty();
            for word in (words.all)() {
                add(&mut counts, word, json!({ "type": "integer", "minimum": 0 }));
            }
            counts
        }
        ColumnKind::Buckets => json!({
            "type": "array",
            "items": {
                "type": "array",
                "prefixItems": [
                    { "type": "integer", "minimum": 0 },
                    { "type": "integer", "minimum": 1 },
                ],
                "items": false,
                "minItems": 2,
            },
        }),
    }
}

/// Golden files of the command line's tests, and the schema of each.
const OUTPUT: [(&str, &str); 9] = [
    ("compare.json", "comparison.json"),
    ("diagnose.json", "diagnosis.json"),
    ("report.json", "report.json"),
    ("report-intervals.json", "report.json"),
    ("losses.json", "report.json"),
    ("connections.json", "connection.json"),
    ("connections-open.json", "connection.json"),
    ("connections-slow.json", "connection.json"),
    ("trace.json", "transition.json"),
];

fn output(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    fs::read_to_string(path).unwrap()
}

/// The validator of the schema in this file of `docs/schema`.
fn validator_of(file: &str) -> Validator {
    let of_file = |(path, _): &(PathBuf, String)| path.ends_with(file);
    let (_, schema) = all().into_iter().find(of_file).expect("a schema");
    validator(&schema)
}

#[test]
fn output_matches_its_schema() {
    for (file, schema) in OUTPUT {
        let lines = output(file);
        assert!(!lines.is_empty(), "{file}");
        assert_valid(&validator_of(schema), &lines);
    }
}

#[test]
fn schemas_reject_other_output() {
    for (file, schema) in OUTPUT {
        let validator = validator_of(schema);
        let object: Value = serde_json::from_str(output(file).lines().next().unwrap()).unwrap();
        assert!(validator.is_valid(&object));
        for name in object.as_object().expect("an object").keys() {
            let mut without = object.clone();
            without.as_object_mut().expect("an object").shift_remove(name);
            assert!(!validator.is_valid(&without), "{schema}: no {name}");
        }
        for (what, changed) in changed(&object) {
            assert!(!validator.is_valid(&changed), "{schema}: {what}");
        }
    }
}

/// `value` with one change of each kind in each of its objects, at any depth.
fn changed(value: &Value) -> Vec<(String, Value)> {
    let mut changes = Vec::new();
    match value {
        Value::Object(object) => {
            let with = |name: &str, part: Value| {
                let mut object = object.clone();
                object.insert(name.into(), part);
                Value::Object(object)
            };
            changes.push(("one more".into(), with("one_more", json!(1))));
            for (name, part) in object {
                changes.push((format!("{name} is a list of lists"), with(name, json!([[[]]]))));
                for (what, part) in self::changed(part) {
                    changes.push((format!("{name}: {what}"), with(name, part)));
                }
            }
        }
        Value::Array(parts) => {
            for (index, part) in parts.iter().enumerate() {
                for (what, part) in changed(part) {
                    let mut parts = parts.clone();
                    parts[index] = part;
                    changes.push((format!("{index}: {what}"), Value::Array(parts)));
                }
            }
        }
        _ => {}
    }
    changes
}
