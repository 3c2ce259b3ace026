//! What happens in a conversation of each kind.

use std::sync::LazyLock;

use super::conversation::{Conversation, Kind, Persona};
use super::dialogue::{Dialogue, Request};
use super::places::Written;
use super::rules::{DEFAULT_SPAN, Focus, Span, Unit};
use crate::bank::{Bank, fill};
use crate::random::Random;

static USER: LazyLock<Bank> = LazyLock::new(|| Bank::parse(include_str!("../../banks/user.txt")));

/// Days that an answer for two places names.
const TWO_PLACES_DAYS: usize = 2;

/// Writes a conversation.
pub(crate) fn converse(kind: Kind, persona: Persona, is_validation: bool, random: Random) -> Conversation {
    let mut dialogue = Dialogue::new(persona, &USER, is_validation, random);
    match kind {
        Kind::CurrentWeather => {
            asks_now(&mut dialogue);
        }
        Kind::Forecast => {
            asks_ahead(&mut dialogue, 7);
        }
        Kind::FollowUp => follow_up(&mut dialogue),
        Kind::TwoPlaces => two_places(&mut dialogue),
        Kind::ToolError => tool_error(&mut dialogue),
        Kind::MissingPlace => missing_place(&mut dialogue),
        Kind::OutOfScope => out_of_scope(&mut dialogue),
        Kind::SmallTalk => small_talk(&mut dialogue),
        Kind::AlreadyAnswered => already_answered(&mut dialogue),
    }
    dialogue.finish(kind)
}

fn place_slot(place: &Written) -> (&'static str, String) {
    ("place", place.text.clone())
}

fn span_slots(span: &Span) -> [(&'static str, String); 2] {
    [("when", span.when.to_owned()), ("span", span.noun.to_owned())]
}

fn asks_now(dialogue: &mut Dialogue) -> Request {
    let place = dialogue.place();
    dialogue.maybe_unit(18);
    dialogue.opens("current", &[place_slot(&place)]);
    let request = Request { place, span: None };
    dialogue.fetches(&request);
    request
}

fn asks_ahead(dialogue: &mut Dialogue, most_days: usize) -> Request {
    let place = dialogue.place();
    dialogue.maybe_unit(18);
    let span = question_ahead(dialogue, &place, most_days);
    let request = Request { place, span: Some(span) };
    dialogue.fetches(&request);
    request
}

/// Asks for coming days; seldom without a span.
fn question_ahead(dialogue: &mut Dialogue, place: &Written, most_days: usize) -> &'static Span {
    if dialogue.random.chance(8) {
        dialogue.opens("forecast.plain", &[place_slot(place)]);
        return &DEFAULT_SPAN;
    }
    let span = dialogue.span(most_days);
    let [when, noun] = span_slots(span);
    dialogue.opens("forecast", &[place_slot(place), when, noun]);
    span
}

fn follow_up(dialogue: &mut Dialogue) {
    let mut last = if dialogue.random.chance(50) { asks_now(dialogue) } else { asks_ahead(dialogue, 3) };
    let more = 1 + usize::from(dialogue.random.chance(35));
    for _ in 0..more {
        let longer = later_span(dialogue, &last);
        match (dialogue.random.weighted(&[34, 34, 14, 10, 8]), longer) {
            (0, Some(span)) => {
                dialogue.asks("follow.when", &span_slots(span));
                last.span = Some(span);
            }
            (2, _) => {
                last.place = dialogue.place();
                let span = dialogue.span(3);
                let [when, noun] = span_slots(span);
                dialogue.asks("follow.both", &[place_slot(&last.place), when, noun]);
                last.span = Some(span);
            }
            (3, _) if dialogue.unit != Some(Unit::Fahrenheit) => {
                dialogue.unit = Some(Unit::Fahrenheit);
                dialogue.asks("follow.unit", &[("unit", Unit::Fahrenheit.title().to_owned())]);
            }
            (4, _) if !dialogue.is_known(last.place.place, None) => {
                dialogue.asks("follow.now", &[]);
                last.span = None;
            }
            _ => {
                last.place = dialogue.place();
                dialogue.asks("follow.place", &[place_slot(&last.place)]);
            }
        }
        dialogue.fetches(&last);
    }
}

/// A span of which no earlier result has all days; `None` if every span is known or few are left.
fn later_span(dialogue: &mut Dialogue, last: &Request) -> Option<&'static Span> {
    let place = last.place.place;
    (0..20).find_map(|_| {
        let span = dialogue.span(3);
        (!dialogue.is_known(place, Some(span))).then_some(span)
    })
}

fn two_places(dialogue: &mut Dialogue) {
    let places = [dialogue.place(), dialogue.place()];
    dialogue.maybe_unit(15);
    let [a, b] = places.each_ref().map(|place| place.text.clone());
    let mut slots = vec![("a", a), ("b", b)];
    let span = dialogue.random.chance(35).then(|| dialogue.span(TWO_PLACES_DAYS));
    match span {
        None => dialogue.opens("two.current", &slots),
        Some(span) => {
            slots.extend(span_slots(span));
            dialogue.opens("two.forecast", &slots);
        }
    }
    let requests = places.map(|place| Request { place, span });
    dialogue.calls(&requests);
    let mut random = dialogue.split_off();
    let weather = requests.each_ref().map(|request| dialogue.weather(request.place.place));
    let (voice, unit) = (dialogue.voice, dialogue.result_unit());
    let text = match span {
        None => voice.two_now(weather, unit, &mut random),
        Some(span) => voice.two_forecasts(weather, span.days, span.focus, unit, &mut random),
    };
    dialogue.replies(text);
}

fn tool_error(dialogue: &mut Dialogue) {
    let is_ahead = dialogue.random.chance(45);
    let errors = ["not_found", "timeout", "unavailable", "rate", "forecast"];
    let error = errors[dialogue.random.weighted(&[35, 20, 20, 12, if is_ahead { 25 } else { 0 }])];
    let mut place = dialogue.place();
    let mut named = place.place.name.to_owned();
    if error == "not_found" {
        let nowhere = *dialogue.random.pick(USER.lines("nowhere"));
        nowhere.clone_into(&mut named);
        place.text = dialogue.typed(nowhere);
    }
    dialogue.maybe_unit(10);
    let span = if is_ahead {
        Some(question_ahead(dialogue, &place, 3))
    } else {
        dialogue.opens("current", &[place_slot(&place)]);
        None
    };
    let mut request = Request { place, span };
    dialogue.calls_in_vain(&request, error);
    let text = dialogue.voice.failure(error, &named, &mut dialogue.random);
    dialogue.replies(text);
    if !dialogue.random.chance(40) {
        return;
    }
    match error {
        "not_found" => {
            request.place = dialogue.place();
            dialogue.asks("correct", &[place_slot(&request.place)]);
        }
        "forecast" => {
            dialogue.asks("instead", &[]);
            request.span = None;
        }
        _ => dialogue.asks("retry", &[]),
    }
    dialogue.fetches(&request);
}

fn missing_place(dialogue: &mut Dialogue) {
    dialogue.maybe_unit(12);
    let span = dialogue.random.chance(50).then(|| dialogue.span(7));
    match span {
        None => dialogue.opens("missing.current", &[]),
        Some(span) => dialogue.opens("missing.forecast", &span_slots(span)),
    }
    let question = dialogue.voice.phrase("ask", &[], &mut dialogue.random);
    dialogue.replies(question);
    let place = dialogue.place();
    let reply = *dialogue.random.pick(USER.lines("missing.reply"));
    // Not `asks`: a bare name keeps its first letter as it is.
    let reply = fill(reply, &[place_slot(&place)], &mut dialogue.random);
    dialogue.says(&reply);
    dialogue.fetches(&Request { place, span });
}

fn out_of_scope(dialogue: &mut Dialogue) {
    let requests = 1 + usize::from(dialogue.random.chance(30));
    for index in 0..requests {
        let declined = if dialogue.random.chance(25) {
            declines_unsafe(dialogue, index == 0)
        } else {
            declines_other(dialogue, index == 0)
        };
        let steer = dialogue.voice.phrase("steer", &[], &mut dialogue.random);
        dialogue.replies(declined + " " + &steer);
    }
}

fn declines_unsafe(dialogue: &mut Dialogue, is_first: bool) -> String {
    if is_first {
        dialogue.opens("unsafe", &[]);
    } else {
        dialogue.asks("unsafe", &[]);
    }
    dialogue.voice.phrase("decline.unsafe", &[], &mut dialogue.random)
}

fn declines_other(dialogue: &mut Dialogue, is_first: bool) -> String {
    let line = *dialogue.random.pick(USER.lines("off"));
    let (request, topic) = line.split_once(" => ").expect("invariant: a test splits every line of `off`");
    let mut text = fill(request, &[], &mut dialogue.random);
    if is_first && dialogue.random.chance(12) {
        text = USER.phrase("prefix", &[], &mut dialogue.random) + " " + &text;
    }
    dialogue.says(&text);
    dialogue.voice.phrase("decline.other", &[("topic", topic.to_owned())], &mut dialogue.random)
}

fn small_talk(dialogue: &mut Dialogue) {
    let openings = ["hello", "how", "who", "can", "chat", "thanks"];
    let first = dialogue.random.weighted(&[20, 15, 15, 15, 20, 15]);
    if ["hello", "thanks"].contains(&openings[first]) {
        // No greeting before a greeting.
        dialogue.asks(openings[first], &[]);
    } else {
        dialogue.opens(openings[first], &[]);
    }
    let text = dialogue.voice.phrase(openings[first], &[], &mut dialogue.random);
    dialogue.replies(text);
    if dialogue.random.chance(60) {
        let rest = ["who", "can", "chat", "thanks", "bye"];
        let next = rest[dialogue.random.weighted(&[10, 10, 25, 30, 25])];
        let next = if next == openings[first] { "bye" } else { next };
        dialogue.asks(next, &[]);
        let text = dialogue.voice.phrase(next, &[], &mut dialogue.random);
        dialogue.replies(text);
    }
}

fn already_answered(dialogue: &mut Dialogue) {
    let (request, topics) = if dialogue.random.chance(60) {
        (asks_now(dialogue), ["humidity", "wind", "umbrella", "coat"])
    } else {
        (asks_week(dialogue), ["warmest", "coldest", "rain", "high"])
    };
    if let Some(span) = request.span
        && dialogue.random.chance(30)
        && let Some(part) = part_of(dialogue, span)
    {
        dialogue.asks("follow.when", &span_slots(part));
        dialogue.tells(&Request { span: Some(part), ..request });
        return;
    }
    let first = dialogue.random.below(4);
    let questions = 1 + usize::from(dialogue.random.chance(35));
    for index in 0..questions {
        let topic = topics[(first + index) % 4];
        let text = answered(dialogue, &request, topic);
        dialogue.replies(text);
    }
}

/// A span whose days are among those of another one.
fn part_of(dialogue: &mut Dialogue, span: &Span) -> Option<&'static Span> {
    (0..50).map(|_| dialogue.span(2)).find(|part| part.days <= span.days && part.words != span.words)
}

/// A forecast of several days that are all named.
fn asks_week(dialogue: &mut Dialogue) -> Request {
    let place = dialogue.place();
    dialogue.maybe_unit(15);
    let span = loop {
        let span = dialogue.span(7);
        if span.focus == Focus::All && span.days > 1 {
            break span;
        }
    };
    let [when, noun] = span_slots(span);
    dialogue.opens("forecast", &[place_slot(&place), when, noun]);
    let request = Request { place, span: Some(span) };
    dialogue.fetches(&request);
    request
}

/// Asks what the result of the first call answers, and answers it.
fn answered(dialogue: &mut Dialogue, request: &Request, topic: &str) -> String {
    let mut random = dialogue.split_off();
    let (voice, unit) = (dialogue.voice, dialogue.result_unit());
    let weather = dialogue.weather(request.place.place);
    let section = format!("already.{topic}");
    let Some(span) = request.span else {
        let text = voice.again_now(topic, weather, unit, &mut random);
        dialogue.asks(&section, &[]);
        return text;
    };
    let days = weather.days(span.days, Focus::All);
    // The first of equal days.
    let day = match topic {
        "warmest" => days.iter().rev().max_by_key(|day| day.high(unit)),
        "coldest" => days.iter().min_by_key(|day| day.low(unit)),
        _ => Some(random.pick(&days)),
    };
    let day = *day.expect("invariant: a span has days");
    let text = voice.again_day(topic, day, unit, &mut random);
    let name = day.name.to_owned();
    dialogue.asks(&section, &[("day", name)]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_of_users_are_whole() {
        for line in USER.lines("off") {
            let (request, topic) = line.split_once(" => ").unwrap();
            assert!(!request.contains('{') && !topic.contains(['[', '{']), "{line}");
        }
        for (name, lines) in USER.sections() {
            let slots: &[&str] = match name {
                "current" | "forecast.plain" | "follow.place" | "missing.reply" | "correct" => &["place"],
                "forecast" | "follow.both" => &["place", "when", "span"],
                "follow.when" | "missing.forecast" => &["when", "span"],
                "two.current" => &["a", "b"],
                "two.forecast" => &["a", "b", "when", "span"],
                "unit.suffix" | "follow.unit" => &["unit"],
                "already.rain" | "already.high" => &["day"],
                _ => &[],
            };
            for line in lines {
                let used: Vec<_> =
                    line.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
                assert!(used.iter().all(|slot| slots.contains(slot)), "{name}: {line}");
                assert_eq!(line.matches('[').count(), line.matches(']').count(), "{name}: {line}");
                if slots.contains(&"place") {
                    assert_eq!(used.iter().filter(|slot| **slot == "place").count(), 1, "{name}: {line}");
                }
                if slots.contains(&"when") {
                    assert_eq!(
                        used.iter().filter(|slot| ["when", "span"].contains(slot)).count(),
                        1,
                        "{name}: {line}"
                    );
                }
            }
        }
    }
}
