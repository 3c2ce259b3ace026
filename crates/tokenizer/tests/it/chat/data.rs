//! Records of every format, good and bad.

use serde_json::{Value, json};
use tokenizer::chat::{Content, Conversation, Format, Record, Severity, inspect};

fn read(value: &Value) -> Conversation {
    match Record::read(value).unwrap() {
        Record::Conversation(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

fn messages(conversation: &Conversation) -> Value {
    json!(conversation.messages)
}

/// The findings as `severity path: message`.
fn findings(value: &Value) -> Vec<String> {
    let inspection = inspect(value);
    let found = inspection.findings.iter();
    found.map(|finding| format!("{} {finding}", finding.severity.name())).collect()
}

#[track_caller]
fn finds(value: Value, wanted: &[&str]) {
    let found = findings(&value);
    assert_eq!(found.len(), wanted.len(), "{value}: {found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{found}, not {wanted}");
    }
    let has_error = inspect(&value).findings.iter().any(|finding| finding.severity == Severity::Error);
    assert_eq!(Record::read(&value).is_err(), has_error);
}

fn user() -> Value {
    json!({"role": "user", "content": "Hi"})
}

fn assistant() -> Value {
    json!({"role": "assistant", "content": "Hello"})
}

fn calls(calls: Value) -> Value {
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

fn weather(arguments: Value) -> Value {
    json!([{"id": "a", "type": "function", "function": {"name": "weather", "arguments": arguments}}])
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": false,
    }}}])
}

#[test]
fn formats_are_told_by_their_fields() {
    let detect = |value: Value| Format::detect(value.as_object().unwrap());
    for (value, wanted) in [
        (json!({"messages": []}), Format::OpenAi),
        (json!({"conversations": []}), Format::ShareGpt),
        (json!({"prompt": "", "completion": ""}), Format::PromptCompletion),
        (json!({"instruction": "", "output": ""}), Format::Alpaca),
        (json!({"text": ""}), Format::Text),
        (json!({"chosen": [], "rejected": []}), Format::Preference),
        (json!({"messages": [], "chosen": [], "rejected": [], "prompt": ""}), Format::Preference),
        (json!({"text": "", "messages": []}), Format::OpenAi),
        (json!({"messages": null, "text": ""}), Format::Text),
    ] {
        assert_eq!(detect(value).unwrap(), wanted);
    }
    assert_eq!(Format::ShareGpt.name(), "ShareGPT (`conversations`)");
    finds(json!({"prompt": "a", "answer": 1}), &["error no known format has these fields (prompt, answer)"]);
    finds(
        json!({"prompt": "a", "completion": "b", "label": true}),
        &["error a `label` for single answers (KTO)"],
    );
    finds(json!([1]), &["error must be a JSON object, not a list"]);
    finds(json!({"text": 3}), &["error `text`: must be a string, not a number"]);
    finds(json!({"text": " "}), &["error `text`: is empty"]);
}

#[test]
fn openai_messages_are_normalised() {
    let value = json!({
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Wea"}, {"type": "text", "text": "ther?"}], "x": 1},
            calls(weather(json!("{\"city\": \"Oslo\", \"n\": 1.50}"))),
            {"role": "tool", "tool_call_id": "a", "content": "sun"},
            {"role": "assistant", "content": "Sun.", "tool_calls": []},
        ],
        "tools": "[{\"name\": \"weather\", \"parameters\": {}}]",
        "chat_template_kwargs": {"enable_thinking": false},
    });
    finds(value.clone(), &[]);
    let conversation = read(&value);
    assert_eq!(
        messages(&conversation),
        json!([
            {"role": "user", "content": "Weather?", "x": 1},
            calls(weather(json!({"city": "Oslo", "n": 1.5}))),
            {"role": "tool", "tool_call_id": "a", "content": "sun"},
            {"role": "assistant", "content": "Sun."},
        ])
    );
    assert_eq!(
        conversation.tools,
        [json!({"type": "function", "function": {"name": "weather", "parameters": {}}})]
    );
    assert_eq!(conversation.variables["enable_thinking"], false);
}

#[test]
fn sharegpt_turns_become_messages() {
    let value = json!({"system": "Sys", "tools": tools().to_string(), "conversations": [
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": "{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}"},
        {"from": "observation", "value": "sun"},
        {"from": "gpt", "value": "Sun."},
    ]});
    finds(value.clone(), &[]);
    let conversation = read(&value);
    assert_eq!(
        messages(&conversation),
        json!([
            {"role": "system", "content": "Sys"},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [{
                "id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}},
            }]},
            {"role": "tool", "content": "sun", "tool_call_id": "call00001"},
            {"role": "assistant", "content": "Sun."},
        ])
    );
    assert_eq!(conversation.tools, tools().as_array().unwrap().clone());
    let value = json!({"conversations": [user(), assistant()]});
    assert_eq!(messages(&read(&value)), json!([user(), assistant()]));
    finds(
        json!({"conversations": [{"from": "narrator", "value": "x"}]}),
        &["error `conversations[0].from`: unknown role `narrator`: expected human, user, gpt"],
    );
    finds(
        json!({"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "weather()"}]}),
        &["error `conversations[1].value`: is not valid JSON"],
    );
    finds(json!({"conversations": [{"value": "x"}]}), &["error `conversations[0]`: `from` is missing"]);
    finds(json!({"conversations": 3}), &["error `conversations`: must be a list of turns, not a number"]);
    finds(json!({"conversations": []}), &["error `conversations`: is empty"]);
}

#[test]
fn alpaca_becomes_a_question_and_an_answer() {
    let value = json!({
        "instruction": "Translate.", "input": "chat", "output": "cat", "system": "Sys", "history": [["a", "b"]],
    });
    finds(value.clone(), &[]);
    assert_eq!(
        messages(&read(&value)),
        json!([
            {"role": "system", "content": "Sys"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "Translate.\n\nchat"}, {"role": "assistant", "content": "cat"},
        ])
    );
    let value = json!({"instruction": "Say hi.", "input": "", "output": "hi"});
    assert_eq!(messages(&read(&value))[0]["content"], "Say hi.");
    finds(
        json!({"instruction": "", "input": null, "output": " "}),
        &["error `instruction`: the `user` turn is empty", "error `output`: the `assistant` turn is empty"],
    );
    finds(
        json!({"instruction": 1, "output": "x"}),
        &["error `instruction`: must be a string", "error `instruction`"],
    );
    finds(
        json!({"instruction": "a", "output": "x", "history": [["a"]]}),
        &["error `history[0]`: must be a pair of strings"],
    );
}

#[test]
fn completions_are_text_or_messages() {
    let record = Record::read(&json!({"prompt": "a", "completion": "b"})).unwrap();
    let text = |text: &str| Content::Text(text.into());
    assert_eq!(record, Record::Completion { prompt: text("a"), completion: text("b"), tools: vec![] });
    finds(json!({"prompt": [user()], "completion": [assistant()]}), &[]);
    finds(
        json!({"prompt": [user()], "completion": [user()]}),
        &[
            "error `completion[0]`: a `user` turn cannot follow another `user` turn",
            "error `completion`: there is no assistant",
        ],
    );
    finds(
        json!({"prompt": [user(), user()], "completion": "x"}),
        &["error `prompt[1]`: a `user` turn cannot follow"],
    );
    finds(json!({"prompt": "a", "completion": ""}), &["error `completion`: is empty"]);
    finds(
        json!({"prompt": 1, "completion": "a"}),
        &["error `prompt`: must be a string or a list of messages"],
    );
}

#[test]
fn preferences_have_their_prompt_given_or_shared() {
    let parts = |value: Value| match Record::read(&value).unwrap() {
        Record::Preference { prompt, chosen, rejected, .. } => {
            [prompt, chosen, rejected].map(|part| match part {
                Content::Text(text) => json!(text),
                Content::Messages(messages) => json!(messages),
            })
        }
        other => panic!("{other:?}"),
    };
    let worse = json!({"role": "assistant", "content": "Hm."});
    let expected = [json!([user()]), json!([assistant()]), json!([worse])];
    assert_eq!(parts(json!({"prompt": [user()], "chosen": [assistant()], "rejected": [worse]})), expected);
    assert_eq!(parts(json!({"chosen": [user(), assistant()], "rejected": [user(), worse]})), expected);
    assert_eq!(
        parts(json!({"prompt": "Hi", "chosen": [user(), assistant()], "rejected": [user(), worse]})),
        expected
    );
    assert_eq!(parts(json!({"prompt": [user()], "chosen": "Hello", "rejected": "Hm."})), expected);
    assert_eq!(
        parts(json!({"prompt": "The sky", "chosen": " is blue", "rejected": " is red"})),
        [json!("The sky"), json!(" is blue"), json!(" is red")]
    );
    assert_eq!(
        parts(json!({"chosen": "The sky is blue", "rejected": "The sky is red"})),
        [json!("The sky is"), json!(" blue"), json!(" red")]
    );
    finds(
        json!({"prompt": "a", "chosen": "b", "rejected": "b"}),
        &["error `rejected`: `chosen` and `rejected` are the same"],
    );
    finds(
        json!({"prompt": "a", "chosen": "b", "rejected": [user()]}),
        &["error `rejected`: must be of the same form"],
    );
    finds(
        json!({"prompt": [user()], "chosen": [assistant(), assistant()], "rejected": [worse]}),
        &["error `chosen[1]`: a `assistant` turn cannot follow another `assistant` turn"],
    );
}

fn chat(messages: Value) -> Value {
    json!({"messages": messages})
}

#[test]
fn roles_and_their_order_are_checked() {
    finds(chat(json!([user(), assistant()])), &[]);
    finds(chat(json!([])), &["error `messages`: is empty"]);
    finds(chat(json!("x")), &["error `messages`: must be a list of messages, not a string"]);
    finds(chat(json!([user(), 3])), &["error `messages[1]`: must be an object, not a number"]);
    finds(chat(json!([user(), {"content": "x"}])), &["error `messages[1]`: `role` is missing"]);
    finds(
        chat(json!([user(), {"role": "bot", "content": "x"}])),
        &["error `messages[1].role`: unknown role `bot`"],
    );
    finds(
        chat(json!([user(), user(), assistant()])),
        &["error `messages[1]`: a `user` turn cannot follow another"],
    );
    finds(
        chat(json!([assistant(), user(), assistant()])),
        &["error `messages[0]`: a `assistant` turn cannot follow the beginning"],
    );
    finds(
        chat(json!([user(), assistant(), assistant()])),
        &["error `messages[2]`: a `assistant` turn cannot follow another"],
    );
    finds(
        chat(json!([user(), assistant(), user()])),
        &["warning `messages`: the conversation ends with a `user` turn"],
    );
    finds(chat(json!([user()])), &["error `messages`: there is no assistant turn"]);
    let system = json!({"role": "system", "content": "x"});
    finds(chat(json!([system, user(), assistant()])), &[]);
    finds(
        chat(json!([user(), assistant(), system, user(), assistant()])),
        &["warning `messages[2]`: a system turn after"],
    );
    finds(
        chat(json!([system, assistant()])),
        &["warning `messages[1]`: a `assistant` turn cannot follow the system turn"],
    );
    finds(
        chat(json!([user(), {"role": "assistant", "content": " \n"}])),
        &["error `messages[1]`: the `assistant` turn is empty"],
    );
    finds(
        chat(json!([user(), {"role": "assistant"}])),
        &["error `messages[1]`: the `assistant` turn is empty"],
    );
    let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]});
    finds(chat(json!([image, assistant()])), &["error `messages[0].content[0]`: a part of type `image_url`"]);
    finds(
        chat(json!([user(), {"role": "assistant", "content": 3}])),
        &["error `messages[1].content`: must be a string or"],
    );
}

#[test]
fn tool_calls_are_checked_against_their_results() {
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "sun"});
    let with_tools = |messages: Value| json!({"messages": messages, "tools": tools()});
    let called = || calls(weather(json!({"city": "Oslo"})));
    finds(with_tools(json!([user(), called(), result("a"), assistant()])), &[]);
    finds(with_tools(json!([user(), called()])), &[]);
    finds(
        with_tools(json!([user(), result("a"), assistant()])),
        &["error `messages[1]`: a tool result without"],
    );
    finds(
        with_tools(json!([user(), called(), result("b"), assistant()])),
        &[
            "error `messages[2].tool_call_id`: tool_call_id `b` matches no open tool call (open: a)",
            "warning `messages[3]`: 1 tool calls have no result",
        ],
    );
    finds(
        with_tools(json!([user(), called(), result("a"), result("a"), assistant()])),
        &["error `messages[3]`: more tool results than the 1 tool calls"],
    );
    finds(
        with_tools(json!([user(), called(), user(), assistant()])),
        &["warning `messages[2]`: 1 tool calls have no"],
    );
    let twice = json!([weather(json!({"city": "x"}))[0], weather(json!({"city": "y"}))[0]]);
    finds(
        with_tools(json!([user(), calls(twice)])),
        &["error `messages[1].tool_calls[1].id`: the id `a` occurs twice"],
    );
    let unnamed = json!([{"function": {"name": "weather", "arguments": "{\"city\": \"x\"}"}}]);
    let result = json!({"role": "tool", "content": "sun"});
    finds(with_tools(json!([user(), calls(unnamed), result, assistant()])), &[]);
}

#[test]
fn arguments_are_checked_against_the_schema() {
    let at = "messages[1].tool_calls[0].function";
    let with = |arguments: Value| json!({"messages": [user(), calls(weather(arguments))], "tools": tools()});
    finds(with(json!("{\"city\": ")), &[&format!("error `{at}.arguments`: is not valid JSON")]);
    finds(with(json!("[1]")), &[&format!("error `{at}.arguments`: must be a JSON object, not a list")]);
    finds(with(json!(3)), &[&format!("error `{at}.arguments`: must be an object, not a number")]);
    finds(
        with(json!({})),
        &[&format!("error `{at}.arguments`: does not fit the schema of `weather`: the required `city`")],
    );
    finds(
        with(json!({"city": 3})),
        &[&format!("error `{at}.arguments.city`: does not fit the schema of `weather`: `3` is not")],
    );
    finds(with(json!({"city": "x", "day": 1})), &[&format!("error `{at}.arguments.day`: does not fit")]);
    finds(
        json!({"messages": [user(), calls(weather(json!({})))]}),
        &[&format!("warning `{at}.name`: calls `weather`, and the record declares no")],
    );
    let other = json!([{"name": "search"}]);
    finds(
        json!({"messages": [user(), calls(weather(json!({})))], "tools": other}),
        &[&format!("error `{at}.name`: calls `weather`, which `tools` does not declare (declared: search)")],
    );
    finds(
        json!({"messages": [user(), calls(json!([{"function": {"arguments": {}}}]))]}),
        &[&format!("error `{at}`: `name` is missing")],
    );
    finds(
        json!({"messages": [user(), calls(json!([{}]))]}),
        &["error `messages[1].tool_calls[0]`: `function` is missing"],
    );
    finds(json!({"messages": [user(), assistant()], "tools": "{"}), &["error `tools`: is not valid JSON"]);
    finds(
        json!({"messages": [user(), assistant()], "tools": {"a": 1}}),
        &["error `tools`: must be a list of tools"],
    );
    finds(
        json!({"messages": [user(), assistant()], "tools": [{"name": "a"}, {"name": "a"}]}),
        &["error `tools[1]`: the tool `a` is declared twice"],
    );
    finds(
        json!({"messages": [user(), assistant()], "tools": [{"x": 1}, 2]}),
        &["error `tools[0]`: `function` is missing", "error `tools[1]`: must be an object"],
    );
}

#[test]
fn all_findings_are_listed_and_the_first_error_is_given() {
    let value = json!({"messages": [user(), {"role": "x"}, {"role": "assistant", "content": 1}], "tools": 3});
    let found = findings(&value);
    assert_eq!(found.len(), 3, "{found:#?}");
    let error = Record::read(&value).unwrap_err();
    assert_eq!(error.to_string(), "`tools`: must be a list of tools, not a number");
    assert_eq!(tokenizer::Error::from(error).kind(), tokenizer::ErrorKind::Data);
}
