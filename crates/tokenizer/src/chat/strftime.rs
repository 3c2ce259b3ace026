//! The date that templates print.

use std::time::{SystemTime, UNIX_EPOCH};

/// The date of templates that ask for one (`strftime_now`).
///
/// Training data must not depend on the day they are made, so the default is fixed: 26 July 2024, which
/// Llama 3.1's own template writes where it is given no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    unix_seconds: i64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { unix_seconds: 1_721_952_000 }
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Clock {
    /// A fixed time, in seconds since 1970 (UTC).
    pub fn fixed(unix_seconds: i64) -> Clock {
        // Years 0 to 9999, which `%Y` writes with four digits.
        Clock { unix_seconds: unix_seconds.clamp(-62_167_219_200, 253_402_300_799) }
    }

    /// The time now (UTC), for answering today.
    pub fn now() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::fixed(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// `datetime.strftime` with the directives that templates use; another one is kept as it is written.
    pub(crate) fn format(&self, format: &str) -> String {
        let days = self.unix_seconds.div_euclid(86_400);
        let second = self.unix_seconds.rem_euclid(86_400);
        let (year, month, day) = civil(days);
        let weekday = (days + 4).rem_euclid(7);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let twelve = (hour + 11) % 12 + 1;
        let month_name = MONTHS[month as usize - 1];
        let day_name = DAYS[weekday as usize];
        let day_of_year = days - days_from_civil(year) + 1;
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let mut directive = chars.next();
            let unpadded = directive == Some('-');
            if unpadded {
                directive = chars.next();
            }
            let number = |value: i64, width: usize| match unpadded {
                true => value.to_string(),
                false => format!("{value:0width$}"),
            };
            text.push_str(&match directive {
                Some('Y') => number(year, 4),
                Some('y') => number(year % 100, 2),
                Some('m') => number(month, 2),
                Some('d') => number(day, 2),
                Some('e') => format!("{day:2}"),
                Some('j') => number(day_of_year, 3),
                Some('H') => number(hour, 2),
                Some('I') => number(twelve, 2),
                Some('M') => number(minute, 2),
                Some('S') => number(second % 60, 2),
                Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
                Some('B') => month_name.to_owned(),
                Some('b' | 'h') => month_name[..3].to_owned(),
                Some('A') => day_name.to_owned(),
                Some('a') => day_name[..3].to_owned(),
                Some('u') => number((weekday + 6) % 7 + 1, 1),
                Some('w') => number(weekday, 1),
                Some('F') => format!("{year:04}-{month:02}-{day:02}"),
                Some('D') => format!("{month:02}/{day:02}/{:02}", year % 100),
                Some('T') => format!("{hour:02}:{minute:02}:{:02}", second % 60),
                Some('R') => format!("{hour:02}:{minute:02}"),
                Some('Z' | 'z') => String::new(),
                Some('%') => "%".to_owned(),
                Some(other) => format!("%{}{other}", if unpadded { "-" } else { "" }),
                None => "%".to_owned(),
            });
        }
        text
    }
}

/// Days since 1970 of the first of January.
fn days_from_civil(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

/// Year, month and day of the days since 1970 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_pythons() {
        let format = "%d %b %Y|%-d %B %y|%A %a %j|%H:%M:%S %I %p|%F %T|%%|%Q";
        for (seconds, wanted) in [
            (1_721_952_000, "26 Jul 2024|26 July 24|Friday Fri 208|00:00:00 12 AM|2024-07-26 00:00:00|%|%Q"),
            (
                951_782_399,
                "28 Feb 2000|28 February 00|Monday Mon 059|23:59:59 11 PM|2000-02-28 23:59:59|%|%Q",
            ),
            (951_868_800, "01 Mar 2000|1 March 00|Wednesday Wed 061|00:00:00 12 AM|2000-03-01 00:00:00|%|%Q"),
            (-86_400, "31 Dec 1969|31 December 69|Wednesday Wed 365|00:00:00 12 AM|1969-12-31 00:00:00|%|%Q"),
        ] {
            assert_eq!(Clock::fixed(seconds).format(format), wanted);
        }
        assert_eq!(Clock::default().format("%d %b %Y"), "26 Jul 2024");
    }
}
