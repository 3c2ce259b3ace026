//! Answers in the voice of a persona. Every number comes from the weather that the tools returned.

use std::sync::LazyLock;

use super::conversation::Persona;
use super::rules::{Focus, Unit};
use super::weather::{Day, Weather};
use crate::bank::{Bank, Slots, capitalized, fill};
use crate::random::Random;

/// Phrases of one persona.
#[derive(Clone, Copy)]
pub(crate) struct Voice {
    persona: Persona,
    bank: &'static Bank,
}

static BANKS: LazyLock<[Bank; 4]> = LazyLock::new(|| {
    [
        include_str!("../../banks/twain.txt"),
        include_str!("../../banks/franklin.txt"),
        include_str!("../../banks/satire.txt"),
        include_str!("../../banks/neutral.txt"),
    ]
    .map(Bank::parse)
});

/// How often an answer has an opening, a comment, and a closing sentence if it has no opening; percent.
struct Habits {
    open: usize,
    comment: usize,
    close: usize,
}

impl Voice {
    /// The voice of a persona.
    pub(crate) fn of(persona: Persona) -> Voice {
        Voice { persona, bank: &BANKS[persona as usize] }
    }

    /// A phrase without or with slots.
    pub(crate) fn phrase(
        self,
        section: &str,
        slots: &[(&'static str, String)],
        random: &mut Random,
    ) -> String {
        self.bank.phrase(section, slots, random)
    }

    /// The weather now; `is_first`: the first answer of the conversation.
    pub(crate) fn current(
        self,
        weather: &Weather,
        unit: Unit,
        is_first: bool,
        random: &mut Random,
    ) -> String {
        let slots = self.slots(weather, unit);
        let now = &weather.now;
        // Rain, fog and wind matter more than degrees; frost and heat more than a clear sky.
        let group = match (now.condition.group, now.band()) {
            ("clear" | "cloud", band @ ("freezing" | "hot")) => band,
            ("clear" | "cloud", band) if random.chance(50) => band,
            (group, _) => group,
        };
        let lead = self.phrase("current", &slots, random);
        let comment = self.phrase(&format!("comment.{group}"), &slots, random);
        self.framed(lead, comment, &slots, is_first, random)
    }

    /// Coming days.
    pub(crate) fn forecast(
        self,
        weather: &Weather,
        days: u8,
        focus: Focus,
        unit: Unit,
        is_first: bool,
        random: &mut Random,
    ) -> String {
        let days = weather.days(days, focus);
        let mut slots = vec![("place", weather.place.name.to_owned())];
        let section = match days.as_slice() {
            [day] => {
                slots.extend(day_slots(day, unit));
                "forecast.one"
            }
            [_, _] | [_, _, _] => {
                slots.push(("list", self.list("item", &days, unit, random)));
                "forecast.some"
            }
            _ => {
                slots.push(("list", self.list("item.short", &days, unit, random)));
                slots.extend(week_slots(&days, unit));
                "forecast.week"
            }
        };
        let lead = self.phrase(section, &slots, random);
        let outlook = if days.iter().any(|day| day.condition.group == "snow") {
            "forecast.snow"
        } else if days.iter().any(|day| day.chance >= 50) {
            "forecast.wet"
        } else if days.iter().all(|day| day.is_freezing()) {
            "comment.freezing"
        } else if days.iter().all(|day| day.is_hot()) {
            "comment.hot"
        } else {
            "forecast.dry"
        };
        let comment = self.phrase(outlook, &slots, random);
        self.framed(lead, comment, &slots, is_first, random)
    }

    /// The weather now at two places.
    pub(crate) fn two_now(self, weather: [&Weather; 2], unit: Unit, random: &mut Random) -> String {
        let [a, b] = weather.map(|weather| weather.now.temperature(unit));
        let mut slots = Vec::new();
        let names = [["a", "a_t", "a_sky", "a_Sky"], ["b", "b_t", "b_sky", "b_Sky"]];
        for ([place, temperature, sky, headline], weather) in names.into_iter().zip(weather) {
            slots.push((place, weather.place.name.to_owned()));
            slots.push((temperature, self.degrees(weather.now.temperature(unit), unit)));
            slots.push((sky, weather.now.condition.sky.to_owned()));
            slots.push((headline, headlined(weather.now.condition.sky)));
        }
        let [warmer, cooler] = if a >= b { weather } else { [weather[1], weather[0]] };
        slots.push(("warmer", warmer.place.name.to_owned()));
        slots.push(("cooler", cooler.place.name.to_owned()));
        let lead = self.phrase("two", &slots, random);
        let compared = self.phrase(if a == b { "two.same" } else { "two.compare" }, &slots, random);
        format!("{lead} {compared}")
    }

    /// Coming days at two places.
    pub(crate) fn two_forecasts(
        self,
        weather: [&Weather; 2],
        days: u8,
        focus: Focus,
        unit: Unit,
        random: &mut Random,
    ) -> String {
        let mut slots = Vec::new();
        for ([place, list], weather) in [["a", "a_list"], ["b", "b_list"]].into_iter().zip(weather) {
            slots.push((place, weather.place.name.to_owned()));
            slots.push((list, self.list("item", &weather.days(days, focus), unit, random)));
        }
        self.phrase("two.forecast", &slots, random)
    }

    /// That a call failed, and what may help. `error` is a section of the banks: "not_found", …
    pub(crate) fn failure(self, error: &str, place: &str, random: &mut Random) -> String {
        let slots = [("place", place.to_owned())];
        let mut text = self.phrase(&format!("error.{error}"), &slots, random);
        if random.chance(40) {
            text = text + " " + &self.phrase("error.color", &[], random);
        }
        text + " " + &self.phrase(&format!("remedy.{error}"), &slots, random)
    }

    /// What the first result says about a place now: `what` is "humidity", "wind", "umbrella" or "coat".
    pub(crate) fn again_now(self, what: &str, weather: &Weather, unit: Unit, random: &mut Random) -> String {
        let is_wet = ["rain", "storm", "snow"].contains(&weather.now.condition.group);
        let section = match (what, is_wet, weather.now.is_coat_weather()) {
            ("umbrella", true, _) => "already.umbrella_yes".to_owned(),
            ("umbrella", false, _) => "already.umbrella_no".to_owned(),
            ("coat", _, true) => "already.coat_yes".to_owned(),
            ("coat", _, false) => "already.coat_no".to_owned(),
            _ => format!("already.{what}"),
        };
        self.phrase(&section, &self.slots(weather, unit), random)
    }

    /// What the first result says about a day: `what` is "warmest", "coldest", "rain" or "high".
    pub(crate) fn again_day(self, what: &str, day: &Day, unit: Unit, random: &mut Random) -> String {
        self.phrase(&format!("already.{what}"), &day_slots(day, unit), random)
    }

    fn slots(self, weather: &Weather, unit: Unit) -> Slots {
        let now = &weather.now;
        vec![
            ("place", weather.place.name.to_owned()),
            ("t", self.degrees(now.temperature(unit), unit)),
            ("sky", now.condition.sky.to_owned()),
            ("Sky", headlined(now.condition.sky)),
            ("condition", now.condition.name.to_owned()),
            ("humidity", now.humidity.to_string()),
            ("wind", now.wind(unit)),
        ]
    }

    /// A temperature in prose.
    fn degrees(self, temperature: i32, unit: Unit) -> String {
        match self.persona {
            Persona::Twain | Persona::Franklin => format!("{temperature} degrees {}", unit.title()),
            Persona::Satire | Persona::Neutral => format!("{temperature} {}", unit.symbol()),
        }
    }

    /// One pattern for all days.
    fn list(self, section: &str, days: &[&Day], unit: Unit, random: &mut Random) -> String {
        let pattern = *random.pick(self.bank.lines(section));
        let items: Vec<_> = days.iter().map(|day| fill(pattern, &day_slots(day, unit), random)).collect();
        items.join("; ")
    }

    fn framed(
        self,
        lead: String,
        comment: String,
        slots: &[(&'static str, String)],
        is_first: bool,
        random: &mut Random,
    ) -> String {
        let habits = match (self.persona, is_first) {
            (Persona::Neutral, true) => Habits { open: 15, comment: 55, close: 15 },
            (Persona::Neutral, false) => Habits { open: 5, comment: 35, close: 5 },
            (_, true) => Habits { open: 35, comment: 85, close: 30 },
            (_, false) => Habits { open: 15, comment: 70, close: 15 },
        };
        // A headline with a colon before a list with one would be one too many.
        let opening = self.phrase("open", slots, random);
        let has_opening = random.chance(habits.open) && !(opening.ends_with(':') && lead.contains(": "));
        let mut parts = Vec::new();
        if has_opening {
            parts.push(opening);
        }
        parts.push(lead);
        let has_comment = random.chance(habits.comment);
        if has_comment {
            parts.push(comment);
        }
        // A persona is heard in every answer.
        let is_plain = self.persona != Persona::Neutral && !has_comment && !has_opening;
        if is_plain || !has_opening && random.chance(habits.close) {
            parts.push(self.phrase("close", slots, random));
        }
        parts.join(" ")
    }
}

/// As in a headline.
fn headlined(sky: &str) -> String {
    sky.split(' ').map(capitalized).collect::<Vec<_>>().join(" ")
}

fn day_slots(day: &Day, unit: Unit) -> Slots {
    vec![
        ("day", day.name.to_owned()),
        ("sky", day.condition.sky.to_owned()),
        ("Sky", headlined(day.condition.sky)),
        ("condition", day.condition.name.to_owned()),
        ("high", format!("{} {}", day.high(unit), unit.symbol())),
        ("low", format!("{} {}", day.low(unit), unit.symbol())),
        ("rain", day.chance.to_string()),
    ]
}

/// The ends and the extremes of some days; of equal days the first.
fn week_slots(days: &[&Day], unit: Unit) -> Slots {
    let mut slots = vec![("n", days.len().to_string())];
    let high = |day: &Day| format!("{} {}", day.high(unit), unit.symbol());
    let warm = days.iter().rev().max_by_key(|day| day.high(unit));
    let cold = days.iter().min_by_key(|day| day.low(unit));
    if let (Some(first), Some(last), Some(warm), Some(cold)) = (days.first(), days.last(), warm, cold) {
        slots.extend([
            ("first_day", first.name.to_owned()),
            ("first_high", high(first)),
            ("last_day", last.name.to_owned()),
            ("last_high", high(last)),
            ("warm_day", warm.name.to_owned()),
            ("warm_high", high(warm)),
            ("cold_day", cold.name.to_owned()),
            ("cold_low", format!("{} {}", cold.low(unit), unit.symbol())),
        ]);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Quotation marks in the bank of Twain stand around his published words only.
    const TWAIN: [&str; 2] = [
        "When in doubt, tell the truth.",
        "Thunder is good, thunder is impressive; but it is lightning that does the work.",
    ];

    #[test]
    fn banks_are_rich_and_have_the_same_sections() {
        let names = |bank: &Bank| bank.sections().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>();
        for (bank, persona) in BANKS.iter().zip(Persona::ALL) {
            assert_eq!(names(bank), names(&BANKS[0]), "{persona:?}");
            let is_comment = |name: &str| {
                name == "open"
                    || name == "close"
                    || name.starts_with("comment.")
                    || name.starts_with("forecast.")
            };
            let count: usize =
                bank.sections().filter(|(name, _)| is_comment(name)).map(|(_, lines)| lines.len()).sum();
            assert!(count >= 60, "{persona:?}: {count}");
            for (name, lines) in bank.sections() {
                let distinct: BTreeSet<_> = lines.iter().collect();
                assert_eq!(distinct.len(), lines.len(), "{persona:?} {name} repeats a phrase");
                assert!(lines.len() >= 2 || name.starts_with("item"), "{persona:?} {name}");
            }
        }
    }

    #[test]
    fn every_slot_and_choice_can_be_filled() {
        const NOW: &[&str] = &["place", "t", "sky", "Sky", "condition", "humidity", "wind"];
        const DAY: &[&str] = &["place", "day", "sky", "Sky", "condition", "high", "low", "rain"];
        const TWO: &[&str] = &[
            "a", "a_t", "a_sky", "a_Sky", "a_list", "b", "b_t", "b_sky", "b_Sky", "b_list", "warmer",
            "cooler",
        ];
        for bank in BANKS.iter() {
            for (name, lines) in bank.sections() {
                let slots: &[&str] = match name {
                    "current" | "already.humidity" | "already.wind" => NOW,
                    "forecast.one" | "item" | "item.short" => DAY,
                    "already.warmest" | "already.coldest" | "already.rain" | "already.high" => &DAY[1..],
                    "forecast.some" => &["place", "list"],
                    "forecast.week" => &[
                        "place",
                        "list",
                        "n",
                        "first_day",
                        "first_high",
                        "last_day",
                        "last_high",
                        "warm_day",
                        "warm_high",
                        "cold_day",
                        "cold_low",
                    ],
                    _ if name.starts_with("two") => TWO,
                    _ if name.starts_with("already") => NOW,
                    "decline.other" => &["topic"],
                    "identity" | "error.color" => &[],
                    _ => &["place"],
                };
                for line in lines {
                    let used = line.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
                    used.for_each(|slot| assert!(slots.contains(&slot), "{name}: {line}"));
                    assert_eq!(line.matches('[').count(), line.matches(']').count(), "{name}: {line}");
                    assert!(
                        !line.split('[').skip(1).any(|rest| !rest.split(']').next().unwrap().contains('|'))
                    );
                    if name == "forecast.week" {
                        let is_whole = line.contains("{warm_high}") && line.contains("{cold_low}");
                        assert!(line.contains("{list}") || is_whole, "{line}");
                    }
                    if name == "current" {
                        assert!(line.contains("{t}") && line.contains("{place}"), "{line}");
                    }
                }
            }
        }
    }

    #[test]
    fn twain_is_quoted_only_with_his_own_words() {
        for (name, lines) in BANKS[Persona::Twain as usize].sections() {
            for line in lines {
                let quotes: Vec<_> = line.split('"').skip(1).step_by(2).collect();
                assert!(quotes.iter().all(|quote| TWAIN.contains(quote)), "{name}: {line}");
            }
        }
    }
}
