//! Validates output against a JSON schema.

use jsonschema::Validator;
use serde_json::Value;

/// A validator for this schema that checks formats too.
#[track_caller]
pub(crate) fn validator(schema: &str) -> Validator {
    let schema = serde_json::from_str(schema).expect("a schema is JSON");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
}

/// Asserts that the schema allows each line.
#[track_caller]
pub(crate) fn assert_valid(validator: &Validator, lines: &str) {
    for line in lines.lines() {
        let object: Value = serde_json::from_str(line).expect("a line is JSON");
        let errors: Vec<_> = validator
            .iter_errors(&object)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "its schema does not allow {line}:\n{}", errors.join("\n"));
    }
}
