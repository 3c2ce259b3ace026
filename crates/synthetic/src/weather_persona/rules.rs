//! The rules that make the arguments of calls a function of the conversation.
//!
//! - `location`: the place exactly as the user last wrote it, in the same case and with the same mistakes,
//!   with state or country only if the user wrote it. A later question without a place means the last one.
//! - No call if the result of an earlier call has the answer (the weather now, or a forecast of at least as
//!   many days, of the same place), except to change the unit. Then the answer is taken from that result.
//! - `unit`: absent until the user names a unit; from then on that unit, in every call.
//! - The function: [`get_forecast`](super::conversation::FORECAST) if the question names a span of
//!   [`SPANS`] or says "forecast", else `get_current_weather`; "today" and "now" are the current weather.
//!   "Then the weather there now" switches back. A later question without a span means the last function
//!   and span.
//! - `days`: the forecast starts with tomorrow, and the number reaches the last day that was asked for (see
//!   [`SPANS`]). The assistant does not know which day it is, so a weekday, a weekend and a week are 7. A
//!   forecast without a span is [`DEFAULT_SPAN`].

/// A span of days as users write it.
#[derive(Debug, PartialEq, Eq)]
pub struct Span {
    /// The words that name it; no text has them for another span.
    pub words: &'static str,
    /// As an adverb: "What will it be like …?"
    pub(crate) when: &'static str,
    /// As a noun: "What about …?"
    pub(crate) noun: &'static str,
    /// The argument.
    pub days: u8,
    /// Which of these days the answer names.
    pub focus: Focus,
}

impl Span {
    /// How many days an answer names.
    pub(crate) fn answered_days(&self) -> usize {
        match self.focus {
            Focus::All => usize::from(self.days),
            Focus::Last | Focus::Weekday(_) => 1,
            Focus::Weekend => 2,
        }
    }
}

/// Which days of a forecast an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// All of them.
    All,
    /// The last one.
    Last,
    /// Saturday and Sunday.
    Weekend,
    /// One weekday, from 0 for Monday.
    Weekday(usize),
}

const fn span(words: &'static str, when: &'static str, noun: &'static str, days: u8, focus: Focus) -> Span {
    Span { words, when, noun, days, focus }
}

const fn next(words: &'static str, when: &'static str, noun: &'static str, days: u8) -> Span {
    span(words, when, noun, days, Focus::All)
}

const fn weekday(words: &'static str, when: &'static str, index: usize) -> Span {
    span(words, when, words, 7, Focus::Weekday(index))
}

/// The names of weekdays.
pub const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// All spans. "the day after tomorrow" stands before "tomorrow", which it contains.
pub static SPANS: [Span; 31] = [
    span("day after tomorrow", "the day after tomorrow", "the day after tomorrow", 2, Focus::Last),
    span("tomorrow", "tomorrow", "tomorrow", 1, Focus::All),
    next("next two days", "over the next two days", "the next two days", 2),
    next("next 2 days", "in the next 2 days", "the next 2 days", 2),
    next("couple of days", "over the next couple of days", "the next couple of days", 2),
    next("next few days", "over the next few days", "the next few days", 3),
    next("coming days", "in the coming days", "the coming days", 3),
    next("next three days", "over the next three days", "the next three days", 3),
    next("next 3 days", "in the next 3 days", "the next 3 days", 3),
    next("coming three days", "in the coming three days", "the coming three days", 3),
    next("next four days", "over the next four days", "the next four days", 4),
    next("next 4 days", "in the next 4 days", "the next 4 days", 4),
    next("next five days", "over the next five days", "the next five days", 5),
    next("next 5 days", "in the next 5 days", "the next 5 days", 5),
    next("next six days", "over the next six days", "the next six days", 6),
    next("next 6 days", "in the next 6 days", "the next 6 days", 6),
    next("next seven days", "over the next seven days", "the next seven days", 7),
    next("next 7 days", "in the next 7 days", "the next 7 days", 7),
    next("this week", "this week", "this week", 7),
    next("next week", "next week", "next week", 7),
    next("coming week", "in the coming week", "the coming week", 7),
    next("week ahead", "in the week ahead", "the week ahead", 7),
    span("this weekend", "this weekend", "this weekend", 7, Focus::Weekend),
    span("the weekend", "on the weekend", "the weekend", 7, Focus::Weekend),
    weekday("Monday", "on Monday", 0),
    weekday("Tuesday", "on Tuesday", 1),
    weekday("Wednesday", "on Wednesday", 2),
    weekday("Thursday", "on Thursday", 3),
    weekday("Friday", "on Friday", 4),
    weekday("Saturday", "on Saturday", 5),
    weekday("Sunday", "on Sunday", 6),
];

/// What a forecast without a span means.
pub static DEFAULT_SPAN: Span = next("forecast", "", "", 3);

/// A unit of temperature that the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Also the tools' default.
    Celsius,
    /// With wind in miles per hour.
    Fahrenheit,
}

impl Unit {
    /// The argument, and the `unit` of results.
    pub fn argument(self) -> &'static str {
        match self {
            Unit::Celsius => "celsius",
            Unit::Fahrenheit => "fahrenheit",
        }
    }

    /// As users and answers write it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Unit::Celsius => "Celsius",
            Unit::Fahrenheit => "Fahrenheit",
        }
    }

    /// After a number.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Unit::Celsius => "°C",
            Unit::Fahrenheit => "°F",
        }
    }
}
