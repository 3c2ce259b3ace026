//! Numbers formatted for people.

/// "1.2 GB", powers of ten.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// "13.8M", "4.1k".
pub fn count(number: u64) -> String {
    scaled(number as f64, &["", "k", "M", "B", "T"]).replace(' ', "")
}

/// "2m05s", "3.2s", "1h20m".
pub fn short_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".to_owned();
    }
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 10.0 => format!("{:.1}s", seconds.max(0.0)),
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3600),
    }
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_the_seams() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.0 kB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(count(13_812_480), "13.8M");
        assert_eq!(count(12), "12");
        assert_eq!(short_duration(9.96), "10.0s");
        assert_eq!(short_duration(59.7), "1m00s");
        assert_eq!(short_duration(125.0), "2m05s");
        assert_eq!(short_duration(4800.0), "1h20m");
        assert_eq!(short_duration(f64::INFINITY), "?");
    }
}
