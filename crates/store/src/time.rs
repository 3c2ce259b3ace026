//! Wall-clock time as text in UTC, so that names sort without time zones.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    unix_s: u64,
}

impl Timestamp {
    /// The current time.
    pub fn now() -> Timestamp {
        Timestamp {
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()),
        }
    }

    /// Seconds since 1970.
    pub fn from_unix(unix_s: u64) -> Timestamp {
        Timestamp { unix_s }
    }

    /// Seconds since 1970.
    pub fn unix_s(self) -> u64 {
        self.unix_s
    }

    /// `2026-11-22T15:30:12Z`.
    pub fn rfc3339(self) -> String {
        let (year, month, day, hour, minute, second) = self.parts();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Parses the output of [`Timestamp::compact`].
    pub fn from_compact(text: &str) -> Option<Timestamp> {
        let (date, time) = text.split_once('-')?;
        if date.len() != 8 || time.len() != 6 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return None;
        }
        let number = |text: &str| text.parse::<u64>().ok();
        let (year, month, day) = (number(&date[..4])?, number(&date[4..6])?, number(&date[6..])?);
        let (hour, minute, second) = (number(&time[..2])?, number(&time[2..4])?, number(&time[4..])?);
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        // Hinnant's days_from_civil, the inverse of `parts`.
        let shifted = if month > 2 { year } else { year - 1 };
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let day_of_era = shifted % 400 * 365 + shifted % 400 / 4 - shifted % 400 / 100 + day_of_year;
        let days = (shifted / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
        Some(Timestamp { unix_s: days * 86_400 + hour * 3_600 + minute * 60 + second })
    }

    /// `20261122-153012`, as run ids begin.
    pub fn compact(self) -> String {
        let (year, month, day, hour, minute, second) = self.parts();
        format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
    }

    /// Days to a civil date: Hinnant, "chrono-compatible low-level date algorithms" (civil_from_days), for
    /// years ≥ 1970.
    fn parts(self) -> (u64, u64, u64, u64, u64, u64) {
        let days = self.unix_s / 86_400 + 719_468;
        let seconds = self.unix_s % 86_400;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, month, day, seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let check = |unix_s, expected: &str| assert_eq!(Timestamp::from_unix(unix_s).rfc3339(), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_709_164_800, "2024-02-29T00:00:00Z");
        check(1_735_689_599, "2024-12-31T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
        assert_eq!(Timestamp::from_unix(1_795_361_412).compact(), "20261122-153012");
    }

    #[test]
    fn compact_times_come_back() {
        for unix_s in [0, 951_782_400, 1_709_210_096, 1_795_361_412, 4_102_444_799] {
            let time = Timestamp::from_unix(unix_s);
            assert_eq!(Timestamp::from_compact(&time.compact()), Some(time));
        }
        for text in ["", "20261122-1530é", "20261322-153011", "x0261122-153011", "19260101-000000"] {
            assert_eq!(Timestamp::from_compact(text), None, "{text}");
        }
    }
}
