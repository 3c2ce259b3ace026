//! Random records and conversations: nothing panics, and turns are disjoint, in order and inside.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokenizer::chat::{
    BUILTINS, Conversation, MaskOptions, Message, Record, RenderOptions, Renderer, inspect,
};

use super::builtin;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    let known = [
        "messages",
        "role",
        "content",
        "tools",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "text",
        "prompt",
        "completion",
        "chosen",
        "rejected",
        "conversations",
        "from",
        "value",
        "id",
        "type",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(String::from), 1 => ".{0,6}"]
}

fn text() -> impl Strategy<Value = String> {
    let pieces = [
        "user",
        "assistant",
        "system",
        "tool",
        "<|im_end|>",
        "</s>",
        "<think>",
        "</think>",
        "\n",
        " ",
        "{",
        "\"",
        "é",
        "🙂",
        "\u{e000}\u{e001}",
        "<s>",
        "[INST]",
        "a",
        "answer",
        "<think>\n\n</think>\n\n",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..6).prop_map(|pieces| pieces.concat())
}

fn message() -> impl Strategy<Value = Message> {
    let role = prop::sample::select(vec!["user", "assistant", "assistant", "system", "tool"]);
    (role, text(), any_json(), any::<u8>()).prop_map(|(role, content, json, choice)| {
        let mut message = Map::new();
        message.insert("role".into(), role.into());
        if choice & 1 == 0 || role != "assistant" {
            message.insert("content".into(), content.clone().into());
        }
        if role == "assistant" && choice & 6 == 6 {
            let arguments = if json.is_object() { json } else { json!({"value": json}) };
            message.insert("tool_calls".into(), json!([
                {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": arguments}},
            ]));
        }
        if choice & 8 == 8 {
            message.insert("reasoning_content".into(), content.into());
        }
        message
    })
}

fn renderers() -> Vec<Renderer> {
    BUILTINS.iter().map(|(name, _)| builtin(name)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_record_is_read_or_refused(value in any_json()) {
        let inspection = inspect(&value);
        prop_assert!(inspection.record.is_some() || !inspection.findings.is_empty());
        if let Ok(record) = Record::read(&value) {
            let _ = builtin("chatml").example(&record, &RenderOptions::default(), &MaskOptions::default());
        }
    }

    #[test]
    fn turns_are_disjoint_and_inside(messages in prop::collection::vec(message(), 1..6)) {
        let roles = ["user", "assistant", "tool", "system"].map(String::from).to_vec();
        for renderer in renderers() {
            for roles in [vec!["assistant".to_owned()], roles.clone()] {
                let options = RenderOptions { roles: roles.clone(), ..RenderOptions::default() };
                let conversation = Conversation::new(messages.clone());
                let Ok(rendered) = renderer.render(&conversation, &options) else { continue };
                prop_assert_eq!(rendered.ids.len(), rendered.offsets.len());
                let mut end = 0;
                for turn in &rendered.turns {
                    prop_assert!(roles.contains(&turn.role));
                    prop_assert!(end <= turn.text.start && turn.text.start <= turn.text.end);
                    prop_assert!(turn.text.end <= rendered.text.len());
                    prop_assert!(rendered.text.is_char_boundary(turn.text.start));
                    prop_assert!(rendered.text.is_char_boundary(turn.text.end));
                    prop_assert!(turn.end_of_turn.is_none_or(|end| turn.tokens.contains(&end)));
                    end = turn.text.end;
                }
                let mask = rendered.mask(&MaskOptions::default());
                prop_assert_eq!(mask.len(), rendered.ids.len());
            }
        }
    }
}
