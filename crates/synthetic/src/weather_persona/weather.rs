//! Invented weather: plausible for a climate, in no particular season, in whole numbers.

use serde_json::{Value, json};

use super::climate::Climate;
use super::places::Place;
use super::rules::{Focus, Unit, WEEKDAYS};
use crate::random::Random;

/// A condition of the sky.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// In results, and in answers as an adjective or a noun.
    pub(crate) name: &'static str,
    /// After "with" or as a subject.
    pub(crate) sky: &'static str,
    /// Which comments fit.
    pub(crate) group: &'static str,
    /// Lowest and highest temperature that it occurs at, °C.
    temperatures: (i32, i32),
    humidity: (i32, i32),
    /// km/h.
    wind: (i32, i32),
    /// Chance of rain or snow for a day with it, in percent.
    chance: (i32, i32),
    weight: usize,
}

const fn condition(
    names: (&'static str, &'static str, &'static str),
    temperatures: (i32, i32),
    humidity: (i32, i32),
    wind: (i32, i32),
    chance: (i32, i32),
    weight: usize,
) -> Condition {
    Condition { name: names.0, sky: names.1, group: names.2, temperatures, humidity, wind, chance, weight }
}

const CONDITIONS: [Condition; 14] = [
    condition(("clear", "clear skies", "clear"), (-30, 45), (20, 60), (2, 24), (0, 10), 12),
    condition(("sunny", "sunshine", "clear"), (-15, 45), (20, 60), (2, 24), (0, 10), 16),
    condition(("partly cloudy", "scattered clouds", "cloud"), (-30, 42), (35, 75), (4, 28), (5, 30), 14),
    condition(("overcast", "overcast skies", "cloud"), (-30, 38), (50, 88), (4, 30), (15, 45), 11),
    condition(("cloudy", "heavy clouds", "cloud"), (-30, 38), (45, 85), (4, 30), (10, 40), 8),
    condition(("light rain", "light rain", "rain"), (2, 32), (70, 95), (6, 32), (60, 85), 11),
    condition(("heavy rain", "heavy rain", "rain"), (4, 32), (82, 99), (12, 45), (80, 100), 6),
    condition(("drizzle", "drizzle", "rain"), (2, 26), (75, 96), (3, 22), (55, 80), 6),
    condition(("thunderstorms", "thunderstorms", "storm"), (15, 36), (70, 96), (25, 58), (65, 95), 6),
    condition(("light snow", "light snow", "snow"), (-30, 1), (70, 95), (3, 28), (55, 85), 26),
    condition(("heavy snow", "heavy snow", "snow"), (-22, 0), (80, 98), (10, 45), (75, 100), 14),
    condition(("fog", "thick fog", "fog"), (-10, 20), (92, 100), (0, 9), (5, 25), 5),
    condition(("windy", "strong wind", "wind"), (-20, 40), (30, 70), (42, 75), (5, 35), 6),
    condition(("hazy", "haze", "cloud"), (16, 45), (25, 65), (2, 14), (0, 15), 4),
];

fn draw(climate: Climate, temperature: i32, random: &mut Random) -> &'static Condition {
    let weight = |condition: &Condition| {
        let (low, high) = condition.temperatures;
        let is_wet = ["rain", "storm", "fog"].contains(&condition.group);
        match climate {
            _ if !(low..=high).contains(&temperature) => 0,
            Climate::Arid if is_wet => condition.weight / 4,
            _ => condition.weight,
        }
    };
    &CONDITIONS[random.weighted(&CONDITIONS.each_ref().map(weight))]
}

/// The weather of a place in one conversation, in °C and km/h: now, and for seven days from tomorrow on.
pub(crate) struct Weather {
    pub(crate) place: &'static Place,
    pub(crate) now: Now,
    days: Vec<Day>,
}

/// The weather now.
pub(crate) struct Now {
    temperature: i32,
    pub(crate) condition: &'static Condition,
    pub(crate) humidity: i32,
    wind: i32,
}

/// The weather of one day.
pub(crate) struct Day {
    pub(crate) name: &'static str,
    high: i32,
    low: i32,
    pub(crate) condition: &'static Condition,
    /// Chance of rain or snow, percent.
    pub(crate) chance: i32,
}

impl Weather {
    /// Invents the weather; `tomorrow` is a weekday, from 0 for Monday.
    pub(crate) fn invent(place: &'static Place, tomorrow: usize, random: &mut Random) -> Weather {
        let (low, high) = place.climate.range();
        let base = random.between(low, high);
        let condition = draw(place.climate, base, random);
        let humidity = random.between(condition.humidity.0, condition.humidity.1);
        let now = Now {
            temperature: base,
            condition,
            humidity: if place.climate == Climate::Arid { humidity * 2 / 3 } else { humidity },
            wind: random.between(condition.wind.0, condition.wind.1),
        };
        let mut high_of_day = base;
        let mut day = |ahead: usize| {
            high_of_day = (high_of_day + random.between(-4, 4)).clamp(low, high);
            let condition = draw(place.climate, high_of_day, random);
            Day {
                name: WEEKDAYS[(tomorrow + ahead) % 7],
                high: high_of_day,
                low: high_of_day - random.between(3, if place.climate == Climate::Tropical { 7 } else { 10 }),
                condition,
                chance: random.between(condition.chance.0, condition.chance.1),
            }
        };
        Weather { place, now, days: (0..7).map(&mut day).collect() }
    }

    /// Days of a forecast that an answer is about.
    pub(crate) fn days(&self, days: u8, focus: Focus) -> Vec<&Day> {
        let all = &self.days[..usize::from(days)];
        let is_asked = |(index, day): &(usize, &Day)| match focus {
            Focus::All => true,
            Focus::Last => index + 1 == all.len(),
            Focus::Weekend => WEEKDAYS[5..].contains(&day.name),
            Focus::Weekday(weekday) => WEEKDAYS[weekday] == day.name,
        };
        all.iter().enumerate().filter(is_asked).map(|(_, day)| day).collect()
    }

    /// The result of `get_current_weather`.
    pub(crate) fn current_result(&self, unit: Unit) -> Value {
        json!({
            "location": self.place.name,
            "temperature": self.now.temperature(unit),
            "unit": unit.argument(),
            "condition": self.now.condition.name,
            "humidity": self.now.humidity,
            "wind": self.now.wind(unit),
        })
    }

    /// The result of `get_forecast`.
    pub(crate) fn forecast_result(&self, days: u8, unit: Unit) -> Value {
        let day = |day: &Day| {
            json!({
                "day": day.name,
                "high": day.high(unit),
                "low": day.low(unit),
                "condition": day.condition.name,
                "precipitation": day.chance,
            })
        };
        let days: Vec<_> = self.days[..usize::from(days)].iter().map(day).collect();
        json!({ "location": self.place.name, "unit": unit.argument(), "days": days })
    }
}

impl Now {
    /// Whole degrees.
    pub(crate) fn temperature(&self, unit: Unit) -> i32 {
        degrees(self.temperature, unit)
    }

    /// With its unit.
    pub(crate) fn wind(&self, unit: Unit) -> String {
        match unit {
            Unit::Celsius => format!("{} km/h", self.wind),
            Unit::Fahrenheit => format!("{} mph", (self.wind * 621 + 500) / 1000),
        }
    }

    /// Which comments on the temperature fit.
    pub(crate) fn band(&self) -> &'static str {
        match self.temperature {
            ..0 => "freezing",
            0..10 => "cold",
            10..19 => "mild",
            19..28 => "warm",
            _ => "hot",
        }
    }

    /// Whether people wear a coat.
    pub(crate) fn is_coat_weather(&self) -> bool {
        self.temperature < 13
    }
}

impl Day {
    /// Whole degrees.
    pub(crate) fn high(&self, unit: Unit) -> i32 {
        degrees(self.high, unit)
    }

    /// Whole degrees.
    pub(crate) fn low(&self, unit: Unit) -> i32 {
        degrees(self.low, unit)
    }

    /// Frost all day.
    pub(crate) fn is_freezing(&self) -> bool {
        self.high < 0
    }

    /// A day to stay in the shade.
    pub(crate) fn is_hot(&self) -> bool {
        self.high >= 30
    }
}

/// Rounds half up.
fn degrees(celsius: i32, unit: Unit) -> i32 {
    match unit {
        Unit::Celsius => celsius,
        Unit::Fahrenheit => (celsius * 18 + 325).div_euclid(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weather_persona::places::PLACES;

    #[test]
    fn degrees_are_converted() {
        for (celsius, fahrenheit) in [(0, 32), (100, 212), (-40, -40), (37, 99), (-3, 27), (18, 64)] {
            assert_eq!(degrees(celsius, Unit::Fahrenheit), fahrenheit);
        }
    }

    #[test]
    fn weather_is_plausible() {
        let mut random = Random::new(5, &[]);
        for place in PLACES.iter() {
            let weather = Weather::invent(place, 2, &mut random);
            let now = &weather.now;
            let range = place.climate.range();
            assert!((range.0..=range.1).contains(&now.temperature) && (0..=100).contains(&now.humidity));
            assert!(now.condition.group != "snow" || now.temperature <= 1);
            assert_eq!(weather.days(7, Focus::Weekend).len(), 2);
            assert_eq!(weather.days(2, Focus::Last)[0].name, "Thursday");
            for day in weather.days(7, Focus::All) {
                assert!(day.low < day.high && (0..=100).contains(&day.chance), "{}", place.name);
                assert!(day.condition.group != "rain" || day.high >= 2);
            }
        }
    }
}
