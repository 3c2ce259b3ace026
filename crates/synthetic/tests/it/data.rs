//! Every line of the default data set: counts, form, numbers, and that the parts are apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use synthetic::weather_persona::places::PLACES;
use synthetic::weather_persona::{self, Kind, Options, Persona};

use crate::{DEFAULT, TRAIN, VALIDATION, all, calls, messages, text};

#[test]
fn counts_and_percentages_are_exact() {
    assert_eq!((TRAIN.len(), VALIDATION.len()), (14_399, 1_601));
    let metadata = &DEFAULT.metadata;
    let expected = json!({ "twain": 44.3, "franklin": 15.4, "satire": 9.4, "neutral": 31.0 });
    assert_eq!(metadata["persona_percent"], expected);
    let mut personas = BTreeMap::new();
    all().for_each(|line| *personas.entry(text(&line["persona"])).or_insert(0) += 1);
    let expected = [("twain", 7_084), ("franklin", 2_460), ("satire", 1_500), ("neutral", 4_956)];
    assert_eq!(personas, BTreeMap::from(expected));
    for (kind, share) in Kind::SHARES {
        for part in [&TRAIN, &VALIDATION] {
            let count = part.iter().filter(|line| line["kind"] == kind.name()).count();
            let percent = 100.0 * count as f64 / part.len() as f64;
            assert!((percent - share as f64).abs() < 0.3, "{kind:?}: {percent}");
        }
    }
}

#[test]
fn output_depends_on_the_options_only() {
    let options = Options { seed: 7, conversations: 500 };
    let hash = |options: &Options| weather_persona::generate(options).unwrap().metadata["files"].clone();
    assert_eq!(hash(&options), hash(&options));
    assert_ne!(hash(&options), hash(&Options { seed: 8, ..options.clone() }));
    for conversations in [0, 99, 200_001] {
        let error = weather_persona::generate(&Options { seed: 7, conversations }).unwrap_err().to_string();
        assert!(error.contains("--conversations") && error.contains("between 100 and 200000"), "{error}");
    }
}

#[test]
fn no_two_conversations_are_equal() {
    let distinct: BTreeSet<String> = all().map(|line| line["messages"].to_string()).collect();
    assert_eq!(distinct.len(), 16_000);
    // Nor are answers that differ only in their numbers common.
    let shapes: BTreeSet<String> = all()
        .map(|line| line["messages"].to_string().chars().filter(|letter| !letter.is_ascii_digit()).collect())
        .collect();
    assert!(shapes.len() > 15_900, "{}", shapes.len());
}

#[test]
fn roles_are_in_order_and_calls_have_their_results() {
    for line in all() {
        let messages = messages(line);
        let roles: Vec<_> = messages.iter().map(|message| text(&message["role"])).collect();
        let mut open: Vec<(&str, &str)> = Vec::new();
        let mut before = "";
        for (role, message) in roles.iter().zip(messages) {
            let fits = match *role {
                "system" => before.is_empty(),
                "user" => ["", "system", "assistant"].contains(&before) && open.is_empty(),
                "assistant" => ["user", "tool"].contains(&before) && open.is_empty(),
                "tool" => !open.is_empty(),
                _ => false,
            };
            assert!(fits, "{roles:?}");
            if *role == "tool" {
                let call = open.remove(0);
                assert_eq!(call, (text(&message["tool_call_id"]), text(&message["name"])));
                serde_json::from_str::<Value>(text(&message["content"])).unwrap();
            } else {
                assert_eq!(text(&message["content"]).is_empty(), !calls(message).is_empty(), "{line}");
            }
            open.extend(calls(message).iter().map(|call| {
                assert_eq!(call["type"], "function");
                (text(&call["id"]), text(&call["function"]["name"]))
            }));
            before = role;
        }
        assert_eq!(before, "assistant");
        assert!(calls(&messages[messages.len() - 1]).is_empty());
        let ids: Vec<_> = messages.iter().flat_map(calls).map(|call| text(&call["id"])).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|id| id.len() == 9), "{ids:?}");
    }
}

#[test]
fn arguments_match_the_schema() {
    for line in all() {
        for call in messages(line).iter().flat_map(calls) {
            let tools = line["tools"].as_array().unwrap();
            let name = &call["function"]["name"];
            let tool = tools.iter().find(|tool| tool["function"]["name"] == *name).unwrap();
            let parameters = &tool["function"]["parameters"];
            let arguments = call["function"]["arguments"].as_object().unwrap();
            for required in parameters["required"].as_array().unwrap() {
                assert!(arguments.contains_key(text(required)), "{arguments:?}");
            }
            for (key, value) in arguments {
                let schema = &parameters["properties"][key];
                match text(&schema["type"]) {
                    "integer" => {
                        let bounds =
                            schema["minimum"].as_i64().unwrap()..=schema["maximum"].as_i64().unwrap();
                        assert!(bounds.contains(&value.as_i64().unwrap()), "{key}: {value}");
                    }
                    "string" => assert!(!text(value).is_empty()),
                    other => panic!("{other}"),
                }
                if let Some(allowed) = schema["enum"].as_array() {
                    assert!(allowed.contains(value), "{value}");
                }
            }
        }
    }
}

#[test]
fn kinds_are_what_they_say() {
    for line in all() {
        let messages = messages(line);
        let turns: Vec<usize> =
            messages.iter().map(|message| calls(message).len()).filter(|n| *n > 0).collect();
        let users = messages.iter().filter(|message| message["role"] == "user").count();
        let is_error = |message: &Value| {
            message["role"] == "tool" && text(&message["content"]).starts_with("{\"error\":")
        };
        let errors = messages.iter().filter(|message| is_error(message)).count();
        let kind = text(&line["kind"]);
        let fits = match kind {
            "current_weather" | "forecast" => turns == [1] && users == 1,
            "follow_up" => turns.len() == users && turns.iter().all(|n| *n == 1) && (2..=3).contains(&users),
            "two_places" => turns == [2] && users == 1,
            "tool_error" => turns.len() == users && errors == 1,
            "missing_place" => turns == [1] && users == 2,
            "out_of_scope" | "small_talk" => turns.is_empty(),
            "already_answered" => turns == [1] && users >= 2,
            _ => false,
        };
        assert!(fits && (errors == 0 || kind == "tool_error"), "{line}");
        assert!(!text(&messages[messages.len() - 1]["content"]).is_empty());
    }
}

/// The text after each result, with the results before it.
fn answers(line: &Value) -> Vec<(Vec<Value>, &str)> {
    let mut results = Vec::new();
    let mut answers = Vec::new();
    for message in messages(line) {
        if message["role"] == "tool" {
            results.push(serde_json::from_str(text(&message["content"])).expect("JSON"));
        } else if message["role"] == "assistant" && calls(message).is_empty() && !results.is_empty() {
            answers.push((std::mem::take(&mut results), text(&message["content"])));
        }
    }
    answers
}

/// The numbers with a sign in a text, as written.
fn numbers(text: &str) -> Vec<i64> {
    let mut numbers = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let is_negative = rest[..start].ends_with('-');
        let end =
            rest[start..].find(|letter: char| !letter.is_ascii_digit()).map_or(rest.len(), |n| start + n);
        let number: i64 = rest[start..end].parse().expect("digits");
        numbers.push(if is_negative { -number } else { number });
        rest = &rest[end..];
    }
    numbers
}

#[test]
fn answers_state_the_numbers_of_the_results_and_no_others() {
    for line in all() {
        for (results, answer) in answers(line) {
            let stated = numbers(answer);
            let mut known: Vec<i64> = Vec::new();
            for result in &results {
                if let Some(error) = result["error"].as_str() {
                    assert!(!answer.contains('°') && !answer.contains("degrees"), "{error}: {answer}");
                    continue;
                }
                let symbol = if result["unit"] == "celsius" { "C" } else { "F" };
                assert!(
                    answer.contains(&format!("°{symbol}")) || answer.contains(&format!("degrees {symbol}"))
                );
                assert!(answer.contains(text(&result["location"])), "{answer}");
                if let Some(days) = result["days"].as_array() {
                    let of =
                        |key: &str| days.iter().map(|day| day[key].as_i64().unwrap()).collect::<Vec<_>>();
                    let (high, low) = (of("high"), of("low"));
                    if let ([only], [low]) = (high.as_slice(), low.as_slice()) {
                        assert!(stated.contains(only) && stated.contains(low), "{answer}");
                    }
                    assert!(high.iter().chain(&low).any(|degrees| stated.contains(degrees)), "{answer}");
                    known.extend(high.into_iter().chain(low).chain(of("precipitation")));
                    known.push(days.len() as i64);
                } else {
                    let temperature = result["temperature"].as_i64().unwrap();
                    assert!(stated.contains(&temperature), "{temperature} is missing: {answer}");
                    known.extend([temperature, result["humidity"].as_i64().unwrap()]);
                    known.extend(numbers(text(&result["wind"])));
                }
            }
            assert!(stated.iter().all(|number| known.contains(number)), "{answer} {results:?}");
        }
    }
}

#[test]
fn answers_are_short_and_filled() {
    for line in all() {
        for message in messages(line) {
            let content = text(&message["content"]);
            if message["role"] != "tool" {
                assert!(!content.contains(['{', '}', '[', ']', '|']), "{content}");
                assert!(!content.contains("  ") && content.trim() == content, "{content:?}");
            }
            if message["role"] == "assistant" {
                let plain = content.replace("St. ", "St ").replace('"', "");
                let ends = [". ", "? ", "! "].iter().map(|end| plain.matches(end).count()).sum::<usize>();
                assert!(ends < 5, "{content}");
                let first = content.chars().next();
                assert!(first.is_none_or(|letter| !letter.is_lowercase()), "{content}");
            }
        }
    }
}

#[test]
fn system_messages_name_the_persona() {
    let is_named = |system: &str, persona: &str| {
        let system = system.to_lowercase();
        match persona {
            "twain" => system.contains("mark twain"),
            "franklin" => system.contains("franklin"),
            _ => system.contains("satir"),
        }
    };
    let named = ["twain", "franklin", "satire"];
    let mut without = 0;
    for line in all() {
        let first = &messages(line)[0];
        let persona = text(&line["persona"]);
        if first["role"] != "system" {
            assert_eq!(persona, Persona::Neutral.name());
            without += 1;
            continue;
        }
        let found: Vec<_> =
            named.into_iter().filter(|persona| is_named(text(&first["content"]), persona)).collect();
        let expected: Vec<_> = named.into_iter().filter(|name| *name == persona).collect();
        assert_eq!(found, expected, "{first}");
    }
    assert!((1_000..1_500).contains(&without), "{without}");
}

/// Words as they stand between other letters.
fn has_word(text: &str, word: &str) -> bool {
    let is_end = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric());
    text.match_indices(word).any(|(at, _)| {
        is_end(text[..at].chars().next_back()) && is_end(text[at + word.len()..].chars().next())
    })
}

#[test]
fn held_out_places_are_not_in_the_training_part() {
    let held_out: Vec<_> = PLACES.iter().filter(|place| place.is_held_out).map(|place| place.name).collect();
    let training: String = TRAIN.iter().map(|line| line["messages"].to_string().to_lowercase()).collect();
    for place in &held_out {
        assert!(!has_word(&training, &place.to_lowercase()), "{place}");
    }
    let locations = VALIDATION.iter().flat_map(messages).filter(|m| m["role"] == "tool");
    let results = locations.map(|message| serde_json::from_str::<Value>(text(&message["content"])).unwrap());
    let named: Vec<String> =
        results.filter_map(|result| Some(result["location"].as_str()?.to_owned())).collect();
    let share =
        named.iter().filter(|name| held_out.contains(&name.as_str())).count() as f64 / named.len() as f64;
    assert!((0.4..0.6).contains(&share), "{share}");
}

#[test]
fn the_files_of_the_repository_are_these() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/synthetic/");
    let committed = std::fs::read_to_string(format!("{folder}merge_metadata.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&committed).unwrap(), DEFAULT.metadata);
    for (name, lines) in
        [("final_train.jsonl.zst", &DEFAULT.train), ("final_validation.jsonl.zst", &DEFAULT.validation)]
    {
        let file = std::fs::File::open(format!("{folder}{name}")).unwrap();
        assert!(zstd::decode_all(file).unwrap() == weather_persona::json_lines(lines), "{name} differs");
    }
}
