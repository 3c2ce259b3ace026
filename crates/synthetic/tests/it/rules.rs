//! The rules of arguments, derived anew from what the users wrote.

use serde_json::{Value, json};
use synthetic::weather_persona::rules::{Focus, SPANS};

use crate::{all, calls, messages, text};

#[test]
fn spans_are_the_documented_table() {
    let days = |words: &str| SPANS.iter().find(|span| span.words == words).map(|span| span.days);
    for (words, expected) in [
        ("tomorrow", 1),
        ("day after tomorrow", 2),
        ("couple of days", 2),
        ("next few days", 3),
        ("next three days", 3),
        ("next 4 days", 4),
        ("next five days", 5),
        ("next 6 days", 6),
        ("this week", 7),
        ("next week", 7),
        ("this weekend", 7),
        ("Friday", 7),
    ] {
        assert_eq!(days(words), Some(expected), "{words}");
    }
    let words: std::collections::BTreeSet<_> = SPANS.iter().map(|span| span.words).collect();
    assert_eq!(words.len(), SPANS.len());
    assert!(SPANS.iter().all(|span| (1..=7).contains(&span.days)));
    assert!(SPANS.iter().filter(|span| matches!(span.focus, Focus::Weekday(_))).count() == 7);
}

/// Days that a question asks for, by the longest words that it contains.
fn days(question: &str) -> Option<u8> {
    let question = question.to_lowercase();
    let named = SPANS.iter().filter(|span| question.contains(&span.words.to_lowercase()));
    let longest = named.max_by_key(|span| span.words.len()).map(|span| span.days);
    longest.or_else(|| question.contains("forecast").then_some(3))
}

fn unit(question: &str) -> Option<&'static str> {
    let question = question.to_lowercase();
    ["celsius", "fahrenheit"].into_iter().find(|unit| question.contains(unit))
}

/// Whether a later question asks for the weather now.
fn is_now(question: &str) -> bool {
    let question = question.to_lowercase();
    let words = ["right now", "at the moment", "there now", "current"];
    words.iter().any(|words| question.contains(words)) && unit(&question).is_none()
}

#[test]
fn arguments_follow_from_what_the_user_wrote() {
    let mut checked = 0;
    for line in all() {
        // What the user has asked for so far.
        let (mut span, mut asked_unit, mut location) = (None, None, String::new());
        let mut questions: Vec<String> = Vec::new();
        for message in messages(line) {
            if message["role"] == "user" {
                let question = text(&message["content"]);
                span = match days(question) {
                    Some(days) => Some(days),
                    None if !questions.is_empty() && is_now(question) => None,
                    None => span,
                };
                asked_unit = unit(question).or(asked_unit);
                questions.push(question.to_owned());
            }
            for call in calls(message) {
                let function = &call["function"];
                let expected = if span.is_some() { "get_forecast" } else { "get_current_weather" };
                assert_eq!(function["name"], expected, "{questions:?}");
                let arguments = &function["arguments"];
                assert_eq!(arguments["days"].as_u64(), span.map(u64::from), "{questions:?}");
                assert_eq!(arguments["unit"].as_str(), asked_unit, "{questions:?}");
                let named = text(&arguments["location"]);
                let last = questions.last().unwrap();
                // The last question names the place, or the place is the one before.
                assert!(last.contains(named) || named == location, "{named}: {questions:?}");
                named.clone_into(&mut location);
                checked += 1;
            }
        }
    }
    assert!(checked > 16_000, "{checked}");
}

#[test]
fn a_place_is_copied_whole() {
    for line in all() {
        let messages = messages(line);
        for (index, message) in messages.iter().enumerate() {
            for call in calls(message) {
                let location = text(&call["function"]["arguments"]["location"]);
                let users = messages[..index].iter().filter(|message| message["role"] == "user");
                let is_whole = |question: &str| {
                    question.match_indices(location).any(|(at, _)| {
                        let after = question[at + location.len()..].chars().next();
                        let before = question[..at].chars().next_back();
                        let is_letter = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
                        !is_letter(before) && !is_letter(after)
                    })
                };
                assert!(users.map(|user| text(&user["content"])).any(is_whole), "{location}");
            }
        }
    }
}

#[test]
fn nothing_is_fetched_twice() {
    for line in all() {
        let mut known: Vec<(Value, u64)> = Vec::new();
        let mut results = messages(line).iter().filter(|message| message["role"] == "tool");
        for call in messages(line).iter().flat_map(calls) {
            let result: Value = serde_json::from_str(text(&results.next().unwrap()["content"])).unwrap();
            if result.get("error").is_some() {
                continue;
            }
            let place = json!([result["location"], result["unit"]]);
            let days = call["function"]["arguments"]["days"].as_u64().unwrap_or(0);
            let has = |(other, known): &(Value, u64)| {
                *other == place && if days == 0 { *known == 0 } else { days <= *known }
            };
            assert!(!known.iter().any(has), "{line}");
            known.push((place, days));
        }
    }
}
