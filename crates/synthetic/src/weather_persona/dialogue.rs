//! A conversation while it is being written: what the user asks, what is called, what is answered.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::conversation::{CURRENT, Call, Conversation, FORECAST, Kind, Message, Persona, Tools};
use super::places::{PLACES, Place, Written};
use super::rules::{SPANS, Span, Unit};
use super::voice::Voice;
use super::weather::Weather;
use crate::bank::Bank;
use crate::random::Random;

/// What a call asks for: the weather of a span, or now.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) place: Written,
    pub(crate) span: Option<&'static Span>,
}

/// A conversation that is not complete.
pub(crate) struct Dialogue {
    pub(crate) random: Random,
    pub(crate) voice: Voice,
    pub(crate) user: &'static Bank,
    /// The unit that the user has asked for.
    pub(crate) unit: Option<Unit>,
    persona: Persona,
    /// Held-out places may occur.
    is_validation: bool,
    /// The user writes without capitals and question marks.
    is_careless: bool,
    tomorrow: usize,
    weather: Vec<Weather>,
    calls: usize,
    messages: Vec<Message>,
    /// Days that a place's forecast has, by its name; 0 for the weather now.
    known: BTreeSet<(&'static str, u8)>,
}

impl Dialogue {
    /// Starts with the system message, if there is one.
    pub(crate) fn new(
        persona: Persona,
        user: &'static Bank,
        is_validation: bool,
        mut random: Random,
    ) -> Dialogue {
        let voice = Voice::of(persona);
        let mut messages = Vec::new();
        if persona != Persona::Neutral || random.chance(75) {
            let identity = voice.phrase("identity", &[], &mut random);
            let content = identity + " " + &user.phrase("rules", &[], &mut random);
            messages.push(Message::System { content });
        }
        Dialogue {
            voice,
            user,
            unit: None,
            persona,
            is_validation,
            is_careless: random.chance(10),
            tomorrow: random.below(7),
            weather: Vec::new(),
            calls: 0,
            messages,
            known: BTreeSet::new(),
            random,
        }
    }

    /// The conversation as it is now.
    pub(crate) fn finish(mut self, kind: Kind) -> Conversation {
        let tools = [Tools::Usual, Tools::Swapped, Tools::WithTime][self.random.weighted(&[75, 15, 10])];
        Conversation { messages: self.messages, tools, persona: self.persona, kind }
    }

    /// A place that this conversation has not named yet, as the user writes it.
    pub(crate) fn place(&mut self) -> Written {
        let is_held_out = self.is_validation && self.random.chance(50);
        loop {
            let place = self.random.pick(&PLACES);
            let is_clear = |other: &Weather| {
                !other.place.name.contains(place.name) && !place.name.contains(other.place.name)
            };
            if place.is_held_out == is_held_out && self.weather.iter().all(is_clear) {
                self.meet(place);
                let mut written = Written::choose(place, &mut self.random);
                written.text = self.typed(&written.text);
                return written;
            }
        }
    }

    /// A span whose answer names at most `most_days` days.
    pub(crate) fn span(&mut self, most_days: usize) -> &'static Span {
        // Weekdays and numbers of days are many spans, so each of them is chosen less often.
        loop {
            let span = self.random.pick(&SPANS);
            let weight = match span.words {
                "tomorrow" => 100,
                "this weekend" | "the weekend" | "this week" | "next week" | "day after tomorrow" => 60,
                _ => 12,
            };
            if span.answered_days() <= most_days && self.random.chance(weight) {
                return span;
            }
        }
    }

    /// At times asks for a unit; later calls have it too.
    pub(crate) fn maybe_unit(&mut self, percent: usize) {
        if self.random.chance(percent) {
            self.unit = Some(*self.random.pick(&[Unit::Celsius, Unit::Fahrenheit]));
        }
    }

    /// The unit of results.
    pub(crate) fn result_unit(&self) -> Unit {
        self.unit.unwrap_or(Unit::Celsius)
    }

    /// The user's first words, with the unit if one was asked for.
    pub(crate) fn opens(&mut self, section: &str, slots: &[(&'static str, String)]) {
        let mut text = self.user.phrase(section, slots, &mut self.random);
        if let Some(unit) = self.unit {
            let unit = [("unit", unit.title().to_owned())];
            if !text.ends_with(['.', '?', '!']) {
                text.push('.');
            }
            text = text + " " + &self.user.phrase("unit.suffix", &unit, &mut self.random);
        }
        if self.random.chance(12) {
            text = self.user.phrase("prefix", &[], &mut self.random) + " " + &text;
        }
        self.says(&text);
    }

    /// Later words of the user.
    pub(crate) fn asks(&mut self, section: &str, slots: &[(&'static str, String)]) {
        let text = self.user.phrase(section, slots, &mut self.random);
        self.says(&text);
    }

    /// Words of the user.
    pub(crate) fn says(&mut self, text: &str) {
        let mut content = self.typed(text);
        if self.is_careless {
            content = content.trim_end_matches(['?', '.', '!', ' ']).to_owned();
        }
        self.messages.push(Message::User { content });
    }

    /// Text as this user types it.
    pub(crate) fn typed(&self, text: &str) -> String {
        if self.is_careless { text.to_lowercase() } else { text.to_owned() }
    }

    /// Words of the assistant.
    pub(crate) fn replies(&mut self, content: String) {
        self.messages.push(Message::Assistant { content, tool_calls: Vec::new() });
    }

    /// Calls the tools, which answer.
    pub(crate) fn calls(&mut self, requests: &[Request]) {
        let unit = self.result_unit();
        let result = |weather: &Weather, request: &Request| match request.span {
            None => weather.current_result(unit),
            Some(span) => weather.forecast_result(span.days, unit),
        };
        let results: Vec<_> =
            requests.iter().map(|request| result(self.weather(request.place.place), request)).collect();
        self.calls_with(requests, &results);
        let days = |request: &Request| request.span.map_or(0, |span| span.days);
        self.known.extend(requests.iter().map(|request| (request.place.place.name, days(request))));
    }

    /// Whether an earlier result has what is asked for.
    pub(crate) fn is_known(&self, place: &Place, span: Option<&Span>) -> bool {
        self.known
            .iter()
            .any(|(name, days)| *name == place.name && span.map_or(*days == 0, |span| span.days <= *days))
    }

    /// Calls a tool, which fails.
    pub(crate) fn calls_in_vain(&mut self, request: &Request, error: &str) {
        let message = self.user.lines(&format!("error.{error}"));
        let message = *self.random.pick(message);
        self.calls_with(std::slice::from_ref(request), &[json!({ "error": message })]);
    }

    fn calls_with(&mut self, requests: &[Request], results: &[Value]) {
        let first = self.calls;
        let id = |index: usize| format!("call_{:04}", first + index + 1);
        let call = |(index, request): (usize, &Request)| {
            let mut arguments = Map::new();
            arguments.insert("location".to_owned(), json!(request.place.text));
            if let Some(span) = request.span {
                arguments.insert("days".to_owned(), json!(span.days));
            }
            if let Some(unit) = self.unit {
                arguments.insert("unit".to_owned(), json!(unit.argument()));
            }
            Call { id: id(index), name: function(request), arguments: Value::Object(arguments) }
        };
        let tool_calls: Vec<_> = requests.iter().enumerate().map(call).collect();
        self.messages.push(Message::Assistant { content: String::new(), tool_calls });
        for (index, (request, result)) in requests.iter().zip(results).enumerate() {
            let content = result.to_string();
            self.messages.push(Message::Tool { tool_call_id: id(index), name: function(request), content });
        }
        self.calls += requests.len();
    }

    /// Calls a tool and tells what it says.
    pub(crate) fn fetches(&mut self, request: &Request) {
        self.calls(std::slice::from_ref(request));
        self.tells(request);
    }

    /// Tells what a result says.
    pub(crate) fn tells(&mut self, request: &Request) {
        let is_first =
            self.messages.iter().filter(|message| matches!(message, Message::User { .. })).count() == 1;
        let (voice, unit) = (self.voice, self.result_unit());
        let mut random = self.split_off();
        let weather = self.weather(request.place.place);
        let text = match request.span {
            None => voice.current(weather, unit, is_first, &mut random),
            Some(span) => voice.forecast(weather, span.days, span.focus, unit, is_first, &mut random),
        };
        self.replies(text);
    }

    /// A stream of its own, for use while the dialogue is borrowed.
    pub(crate) fn split_off(&mut self) -> Random {
        let seed = self.random.below(usize::MAX >> 32);
        Random::new(seed as u64, &[self.messages.len() as u64])
    }

    /// The weather of a place that was met.
    pub(crate) fn weather(&self, place: &Place) -> &Weather {
        let weather = self.weather.iter().find(|weather| weather.place == place);
        weather.expect("invariant: places come from `place`, which invents their weather")
    }

    fn meet(&mut self, place: &'static Place) {
        let weather = Weather::invent(place, self.tomorrow, &mut self.random);
        self.weather.push(weather);
    }
}

fn function(request: &Request) -> &'static str {
    if request.span.is_some() { FORECAST } else { CURRENT }
}
