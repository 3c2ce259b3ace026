//! Bounds of the values that a template makes.
//!
//! minijinja counts the steps that make a value. A list that contains another twice doubles in one step, and
//! takes 2^60 steps to print, to compare or to join after sixty: so every value that is assigned is counted.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// Values nest no deeper than this.
const DEEPEST: usize = 100;
/// Most values within one, each counted as often as it occurs.
const MOST_VALUES: u64 = 1 << 18;

/// A value as it is, if what it contains has bounds. `depth` 0 for one that may be a namespace itself.
pub(crate) fn bounded(state: &State, value: &Value, depth: usize) -> Result<Value, Error> {
    let mut count = 0;
    count_values(value, depth, &mut count)?;
    state.consume_fuel(count / 16)?;
    Ok(value.clone())
}

fn count_values(value: &Value, depth: usize, count: &mut u64) -> Result<(), Error> {
    *count += 1;
    if depth > DEEPEST || *count > MOST_VALUES {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    let is_map = value.kind() == ValueKind::Map;
    if is_map
        && depth > 0
        && value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
    {
        // Its content can be changed after it was counted.
        return Err(Error::new(ErrorKind::InvalidOperation, "a namespace within a value is not supported"));
    }
    if is_map || matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        for item in value.try_iter()?.checked() {
            let item = item?;
            let item = if is_map { value.get_item(&item)? } else { item };
            count_values(&item, depth + 1, count)?;
        }
    }
    Ok(())
}
