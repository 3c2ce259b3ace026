//! Names of the folders of runs.

/// Whether a folder's name is that of a run: its start time, followed by its name.
pub fn is_run_id(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 15
        && bytes[..15].iter().enumerate().all(|(at, byte)| match at {
            8 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
        && bytes.get(15).is_none_or(|byte| *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_told_from_names() {
        for id in ["20261122-153011", "20261122-153012-my-recipe-2"] {
            assert!(is_run_id(id), "{id}");
        }
        for name in ["mine", "20261122_153011", "20261122-15301", "20261122-153011x", "é0261122-15301"] {
            assert!(!is_run_id(name), "{name}");
        }
    }
}
