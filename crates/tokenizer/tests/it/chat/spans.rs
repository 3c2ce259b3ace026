//! Where turns are: what the model writes is inside, everything else outside.

use serde_json::{Value, json};
use tokenizer::chat::{
    ChatError, Content, Conversation, MaskOptions, Record, RenderOptions, Rendered, Renderer, Train,
};

use super::{builtin, case, cases, conversation, with_source};

fn rendered(renderer: &Renderer, conversation: &Conversation) -> Rendered {
    renderer.render(conversation, &RenderOptions::default()).unwrap()
}

/// The text of each turn, whose tokens are exactly its text.
fn turns(rendered: &Rendered) -> Vec<&str> {
    let text = |turn: &tokenizer::chat::Turn| {
        let tokens = &rendered.offsets[turn.tokens.clone()];
        assert_eq!(tokens.last().unwrap().end, turn.text.end, "{:?}", rendered.text);
        assert_eq!(tokens[0].start, turn.text.start, "{:?}", rendered.text);
        assert_eq!(turn.end_of_turn, Some(turn.tokens.end - 1), "{:?}", rendered.text);
        &rendered.text[turn.text.clone()]
    };
    rendered.turns.iter().map(text).collect()
}

#[track_caller]
fn check(template: &str, name: &str, wanted: &[&str]) {
    let rendered = rendered(&builtin(template), &case(name));
    assert_eq!(turns(&rendered), wanted, "{template}: {:?}", rendered.text);
}

#[test]
fn three_answers_are_found_in_every_family() {
    for (template, end, before) in [
        ("chatml", "<|im_end|>", ""),
        ("smollm2", "<|im_end|>", ""),
        ("qwen2.5", "<|im_end|>", ""),
        ("qwen3", "<|im_end|>", ""),
        ("llama3", "<|eot_id|>", ""),
        ("llama3.1", "<|eot_id|>", ""),
        ("mistral", "</s>", " "),
        ("phi3", "<|end|>", ""),
        ("gemma", "<end_of_turn>", ""),
        ("gemma3", "<end_of_turn>", ""),
        ("zephyr", "</s>", ""),
    ] {
        let answers =
            ["First answer.", "Second answer.", "Third answer."].map(|a| format!("{before}{a}{end}"));
        check(template, "multi-turn", &answers.each_ref().map(String::as_str));
    }
}

#[test]
fn white_space_that_a_template_trims_is_no_loss() {
    check("chatml", "white space", &["\n  Answer with space \n\n<|im_end|>"]);
    check("llama3", "white space", &["Answer with space<|eot_id|>"]);
    check("mistral", "white space", &[" Answer with space</s>"]);
}

#[test]
fn tool_calls_are_inside() {
    let call = |city: &str| {
        format!(
            "<tool_call>\n{{\"name\": \"get_weather\", \"arguments\": {{\"city\": \"{city}\"}}}}\n</tool_call>"
        )
    };
    let both = format!("{}\n{}<|im_end|>", call("Paris"), call("Rome"));
    let thinking = "<think>\n\n</think>\n\n";
    for template in ["chatml", "qwen2.5", "qwen3"] {
        check(template, "parallel calls", &[&both, "Rain in Paris, sun in Rome.<|im_end|>"]);
        let rendered = rendered(&builtin(template), &case("parallel calls"));
        let answer = &rendered.turns[1];
        let before = &rendered.text[..answer.text.start];
        assert_eq!(before.ends_with(thinking), template == "qwen3", "{before:?}");
    }
    check(
        "llama3.1",
        "tool call",
        &[
            "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}<|eot_id|>",
            "It is 21.5 degrees.<|eot_id|>",
        ],
    );
    check(
        "llama3.1",
        "builtin tools",
        &["<|python_tag|>wolfram.call(query=\"1+1\")<|eom_id|>", "2.<|eot_id|>"],
    );
}

#[test]
fn mistral_tools_are_found_though_they_move_to_the_last_question() {
    let call = |rest: &str, id: u32| {
        format!(
            "[TOOL_CALLS] [{{\"name\": \"get_weather\", \"arguments\": {{\"city\": {rest}}}, \"id\": \"call0000{id}\"}}]</s>"
        )
    };
    check(
        "mistral",
        "tools multi-turn",
        &[" Hello.</s>", &call("\"Bern\"", 1), " Fog.</s>", &call("\"Bern\", \"days\": 1", 2), " Snow.</s>"],
    );
    let two = "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"call00001\"}, \
               {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rome\"}, \"id\": \"call00002\"}]</s>";
    check("mistral", "parallel calls", &[two, " Rain in Paris, sun in Rome.</s>"]);
}

#[test]
fn a_system_turn_that_mistral_drops_is_told() {
    let rendered = rendered(&builtin("mistral"), &case("multi-turn system"));
    assert_eq!(turns(&rendered), [" First.</s>", " Second.</s>"]);
    assert_eq!(rendered.dropped, [0]);
    let rendered = self::rendered(&builtin("chatml"), &case("multi-turn system"));
    assert_eq!(rendered.dropped, [0; 0]);
}

#[test]
fn reasoning_is_trained_and_an_empty_think_block_is_not() {
    check("qwen3", "reasoning", &["<think>\n17 times 3 is 51.\n</think>\n\n51.<|im_end|>"]);
    check(
        "qwen3",
        "reasoning multi-turn",
        &["51.<|im_end|>", "<think>\nAdd one.\n</think>\n\n52.<|im_end|>"],
    );
    check("qwen3", "reasoning in content", &["51.<|im_end|>", "<think>\nAdd.\n</think>\n\n52.<|im_end|>"]);
    check(
        "chatml",
        "reasoning in content",
        &["<think>\nMultiply.\n</think>\n\n51.<|im_end|>", "<think>\nAdd.\n</think>\n\n52.<|im_end|>"],
    );
    for name in ["plain", "no thinking"] {
        let rendered = rendered(&builtin("qwen3"), &case(name));
        let answer = turns(&rendered)[0].to_owned();
        assert!(answer == "Hi. What can I do?<|im_end|>" || answer == "Hello.<|im_end|>", "{answer:?}");
        assert!(rendered.text[..rendered.turns[0].text.start].ends_with("<think>\n\n</think>\n\n"));
    }
    check(
        "qwen3",
        "reasoning with tools",
        &[
            "<think>\nI need the tool.\n</think>\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": \
         {\"city\": \"Bonn\"}}\n</tool_call><|im_end|>",
            "<think>\nNow I know.\n</think>\n\nWind.<|im_end|>",
        ],
    );
    let mut thinking = case("reasoning");
    thinking.variables.insert("enable_thinking".into(), false.into());
    let rendered = rendered(&builtin("qwen3"), &thinking);
    assert_eq!(turns(&rendered), ["<think>\n17 times 3 is 51.\n</think>\n\n51.<|im_end|>"]);
}

/// What each family renders of each conversation is either found whole, or refused by name.
#[test]
fn every_conversation_is_found_or_refused() {
    let mut found = 0;
    for (name, _) in tokenizer::chat::BUILTINS {
        let renderer = builtin(name);
        for case in cases() {
            let conversation = conversation(&case);
            match renderer.render(&conversation, &RenderOptions::default()) {
                Ok(rendered) => {
                    let texts = turns(&rendered);
                    let answers = conversation.messages.iter().filter(|m| m["role"] == "assistant");
                    assert_eq!(texts.len(), answers.count(), "{name}, {}", case["name"]);
                    for (text, turn) in texts.iter().zip(&rendered.turns) {
                        let content = conversation.messages[turn.message_index]["content"].as_str();
                        let said = content.unwrap_or("").rsplit("</think>").next().unwrap().trim();
                        assert!(text.contains(said), "{name}, {}: {text:?}", case["name"]);
                        for header in ["<|im_start|>", "<|start_header_id|>", "[INST]", "<start_of_turn>"] {
                            assert!(!text.contains(header), "{name}, {}: {text:?}", case["name"]);
                        }
                    }
                    found += texts.len();
                }
                Err(tokenizer::Error::Chat(
                    ChatError::Refused { .. }
                    | ChatError::ToolsVanish { .. }
                    | ChatError::ToolCallVanishes { .. }
                    | ChatError::ContentVanishes { .. },
                )) => {}
                Err(error) => panic!("{name}, {}: {error}", case["name"]),
            }
        }
    }
    assert!(found > 300, "{found}");
}

#[track_caller]
fn refused(renderer: &Renderer, conversation: &Conversation, wanted: &str) {
    let error = renderer.render(conversation, &RenderOptions::default()).unwrap_err().to_string();
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn what_a_template_drops_is_refused() {
    refused(&builtin("zephyr"), &case("tool call"), "tool call vanishes");
    refused(&builtin("phi3"), &case("calls without tools"), "does not render the name `get_weather`");
    refused(
        &builtin("smollm2"),
        &case("tools not called"),
        "does not render the declared tool `get_weather`",
    );
    let names_only = "{% for t in tools %}{{ t.function.name }} {% endfor %}{% for m in messages %}\
                      {{ '<|im_start|>' + m.role + '\\n' }}{{ m.content }}{% for c in m.tool_calls or [] %}\
                      {{ c.function.name }}({{ c.function.arguments | list | join }}){% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    refused(&with_source(names_only), &case("tool call"), "`arguments.city` of `messages[1].tool_calls[0]`");
    refused(
        &builtin("llama3.1"),
        &case("tool call with text"),
        "does not render the content of `messages[1]`",
    );
}

#[test]
fn templates_with_habits_of_their_own() {
    let plain = case("multi-turn");
    let check = |source: &str, wanted: &[&str]| {
        let rendered = rendered(&with_source(source), &plain);
        let texts: Vec<&str> = rendered.turns.iter().map(|turn| &rendered.text[turn.text.clone()]).collect();
        assert_eq!(texts, wanted, "{:?}", rendered.text);
        rendered
    };
    // No generation prompt: the marker shows where the header ends.
    let source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}";
    check(source, &["First answer.<|im_end|>", "Second answer.<|im_end|>", "Third answer.<|im_end|>"]);
    // The prompt opens a think block that answers in the conversation do not have (DeepSeek-R1).
    let source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}\
                  {% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}\
                  {% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}";
    check(source, &["First answer.</s>", "Second answer.</s>", "Third answer.</s>"]);
    // The kind of the message is written by the model (gpt-oss).
    let source = "{% for m in messages %}{{ '<|start_header_id|>' + m.role + \
                  ('<|python_tag|>final' if m.role == 'assistant' else '') + '<|end_header_id|>' + m.content + '<|end|>' }}\
                  {% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant' }}{% endif %}";
    let said = |text: &str| format!("<|python_tag|>final<|end_header_id|>{text}<|end|>");
    check(source, &[&said("First answer."), &said("Second answer."), &said("Third answer.")]);
    // Nothing ends a turn.
    let source = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}\
                  {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    let rendered = check(source, &["First answer.", "Second answer.", "Third answer."]);
    assert!(rendered.turns.iter().all(|turn| turn.end_of_turn.is_none()));
    // White space before the end of a turn is written by the model.
    let source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '\\n<|im_end|>\\n' }}{% endfor %}\
                  {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    check(source, &["First answer.\n<|im_end|>", "Second answer.\n<|im_end|>", "Third answer.\n<|im_end|>"]);
}

#[test]
fn a_turn_without_a_place_is_refused() {
    let counts = "{{ messages | tojson | length }}{% for m in messages %}\
                  {{ m.content | upper }}{{ messages | tojson | length }}{% endfor %}";
    let mut shouted = case("plain");
    shouted.messages[1]["content"] = json!("HI!");
    refused(&with_source(counts), &shouted, "cannot be found");
}

#[test]
fn two_bos_are_refused() {
    let twice = "{{ bos_token + bos_token }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}";
    refused(&with_source(twice), &case("plain"), "two BOS tokens (`<s>`)");
    let mut first = case("plain");
    first.messages[0]["content"] = json!("<s>Hello");
    let written = "{{ bos_token }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}";
    refused(&with_source(written), &first, "two BOS tokens");
    let record = Record::Text("<s>already there".into());
    let error = builtin("chatml").example(&record, &RenderOptions::default(), &MaskOptions::default());
    assert!(error.unwrap_err().to_string().contains("two BOS"));
}

/// The text of trained tokens; bytes of one character count once.
fn trained(text: &str, offsets: &[std::ops::Range<usize>], mask: &[bool]) -> String {
    let mut end = 0;
    let mut out = String::new();
    for (range, _) in offsets.iter().zip(mask).filter(|(_, trained)| **trained) {
        if range.start >= end {
            out.push_str(&text[range.clone()]);
            end = range.end;
        }
    }
    out
}

#[test]
fn masks_choose_turns() {
    let conversation = case("multi-turn");
    let renderer = builtin("chatml");
    let options =
        RenderOptions { roles: ["user", "assistant"].map(String::from).to_vec(), ..RenderOptions::default() };
    let rendered = renderer.render(&conversation, &options).unwrap();
    let text = |options: MaskOptions| trained(&rendered.text, &rendered.offsets, &rendered.mask(&options));
    let all = "First answer.<|im_end|>Second answer.<|im_end|>Third answer.<|im_end|>";
    assert_eq!(text(MaskOptions::default()), all);
    assert_eq!(text(MaskOptions { train: Train::Last, ..MaskOptions::default() }), "Third answer.<|im_end|>");
    let without_end = MaskOptions { end_of_turn: false, ..MaskOptions::default() };
    assert_eq!(text(without_end), "First answer.Second answer.Third answer.");
    let users = MaskOptions { train: Train::Roles(vec!["user".into()]), ..MaskOptions::default() };
    assert_eq!(text(users), "One?<|im_end|>Two?<|im_end|>Three?<|im_end|>");
    let later = MaskOptions { from_message: 4, ..MaskOptions::default() };
    assert_eq!(text(later), "Third answer.<|im_end|>");
    let none = MaskOptions { train: Train::Roles(Vec::new()), ..MaskOptions::default() };
    assert_eq!(text(none), "");
}

#[test]
fn tokens_that_begin_before_a_turn_are_not_trained() {
    // The header's last letter and the answer's first ones could be one token.
    let source = "{% for m in messages %}{{ m.role + m.content + eos_token }}{% endfor %}\
                  {% if add_generation_prompt %}assistant{% endif %}";
    let mut conversation = case("plain");
    conversation.messages[1]["content"] = json!("s the");
    let rendered = rendered(&with_source(source), &conversation);
    let turn = &rendered.turns[0];
    assert_eq!(&rendered.text[turn.text.clone()], "s the</s>");
    assert!(rendered.offsets[turn.tokens.clone()].iter().all(|token| token.start >= turn.text.start));
}

fn example(value: Value) -> tokenizer::chat::Example {
    let record = Record::read(&value).unwrap();
    builtin("chatml").example(&record, &RenderOptions::default(), &MaskOptions::default()).unwrap()
}

#[test]
fn records_without_turns_are_trained_with_bos_and_eos() {
    let text = example(json!({"text": "Once upon a time."}));
    assert_eq!((text.ids[0], *text.ids.last().unwrap()), (1, 2));
    assert!(text.mask.iter().all(|trained| *trained));
    let ended = example(json!({"text": "Once upon a time.</s>"}));
    assert_eq!(ended.ids, text.ids, "EOS is not written twice");
    let pair = example(json!({"prompt": "2 + 2 =", "completion": " 4"}));
    assert_eq!(pair.text, "2 + 2 = 4");
    assert_eq!((pair.ids[0], *pair.ids.last().unwrap()), (1, 2));
    assert_eq!(trained(&pair.text, &pair.offsets, &pair.mask), " 4");
    assert!(!pair.mask[0] && *pair.mask.last().unwrap());
}

#[test]
fn of_a_prompt_with_turns_the_completion_is_trained() {
    let wanted = "Second.<|im_end|>";
    let prompt = json!([
        {"role": "user", "content": "One?"}, {"role": "assistant", "content": "First."},
        {"role": "user", "content": "Two?"},
    ]);
    let answer = json!([{"role": "assistant", "content": "Second."}]);
    let completion = example(json!({"prompt": prompt, "completion": answer}));
    assert_eq!(trained(&completion.text, &completion.offsets, &completion.mask), wanted);
    let completion = example(json!({"prompt": prompt, "completion": "Second."}));
    assert_eq!(trained(&completion.text, &completion.offsets, &completion.mask), wanted);
    let record = Record::read(&json!({
        "prompt": prompt, "chosen": answer, "rejected": [{"role": "assistant", "content": "Worse."}],
    }));
    let pair = builtin("chatml")
        .preference(&record.unwrap(), &RenderOptions::default(), &MaskOptions::default())
        .unwrap()
        .unwrap();
    assert_eq!(trained(&pair.chosen.text, &pair.chosen.offsets, &pair.chosen.mask), wanted);
    assert_eq!(trained(&pair.rejected.text, &pair.rejected.offsets, &pair.rejected.mask), "Worse.<|im_end|>");
    let text = Record::Completion {
        prompt: Content::Text("a".into()),
        completion: Content::Text("b".into()),
        tools: Vec::new(),
    };
    let none = builtin("chatml").preference(&text, &RenderOptions::default(), &MaskOptions::default());
    assert_eq!(none.unwrap(), None);
}
