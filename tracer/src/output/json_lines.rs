//! JSON lines: one object per line.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::{
    message::escape::write_json,
    output::column::{Column, to_object},
};

pub(super) fn line<T>(out: &mut impl Write, columns: &[Column<T>], item: &T) -> io::Result<()> {
    object(out, to_object(columns, item))
}

pub(super) fn object(out: &mut impl Write, object: Map<String, Value>) -> io::Result<()> {
    write_json(out, &Value::Object(object))?;
    out.write_all(b"\n")
}
