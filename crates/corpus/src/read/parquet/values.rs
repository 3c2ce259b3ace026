//! Whole rows as JSON values, lists and groups included: records of examples.

use std::sync::{Arc, Mutex};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};
use store::fs::FsReader;

use super::shared::{Shared, guarded, said};

/// Passes every row to `each`, until it returns false.
///
/// # Errors
/// What is wrong with the file.
pub fn values(
    file: Box<dyn FsReader>,
    bytes: u64,
    each: &mut dyn FnMut(Value) -> bool,
) -> Result<(), String> {
    let file = Shared { file: Arc::new(Mutex::new(file)), bytes };
    let reader = guarded(|| {
        file.check_footer()?;
        SerializedFileReader::new(file.clone()).map_err(said)
    })?;
    let mut rows = guarded(|| reader.get_row_iter(None).map_err(said))?;
    let mut number = 0;
    loop {
        let row = guarded(|| rows.next().transpose().map_err(said))
            .map_err(|problem| format!("is damaged after {number} rows: {problem}"))?;
        let Some(row) = row else { return Ok(()) };
        number += 1;
        if !each(Value::Object(of_row(&row))) {
            return Ok(());
        }
    }
}

fn of_row(row: &Row) -> Map<String, Value> {
    row.get_column_iter().map(|(name, field)| (name.clone(), of_field(field))).collect()
}

fn of_field(field: &Field) -> Value {
    let real = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => (*flag).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float(number) => real(f64::from(*number)),
        Field::Double(number) => real(*number),
        Field::Str(text) => text.clone().into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned().into(),
        Field::Group(row) => Value::Object(of_row(row)),
        Field::ListInternal(list) => list.elements().iter().map(of_field).collect(),
        Field::MapInternal(map) => {
            let key = |field: &Field| match of_field(field) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            map.entries().iter().map(|(name, value)| (key(name), of_field(value))).collect()
        }
        // Dates, decimals and the like: no field of a conversation.
        other => other.to_string().into(),
    }
}
