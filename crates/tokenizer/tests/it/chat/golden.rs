//! Text and ids equal those of transformers' `apply_chat_template`.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizer::chat::{BUILTINS, ChatError, ChatTemplate, Renderer};

use super::{bare, builtin, cases, conversation, data, tokenizer, with_source};

/// FNV-1a, as in tools/golden_chat.py.
fn fingerprint(ids: &[u32]) -> String {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Compares the results of one file, and returns how many conversations were rendered.
fn compare(results: &Value, mut renderer: impl FnMut(&str) -> Renderer) -> usize {
    let cases = cases();
    let mut renderers: BTreeMap<String, Renderer> = BTreeMap::new();
    let mut rendered_count = 0;
    let mut differences = Vec::new();
    for result in results["results"].as_array().unwrap() {
        let template = result["template"].as_str().unwrap();
        let renderer = renderers.entry(template.to_owned()).or_insert_with(|| renderer(template));
        let mut conversation =
            conversation(cases.iter().find(|case| case["name"] == result["case"]).unwrap());
        let options = bare(result["prompt"].as_bool().unwrap());
        let ours = match renderer.render(&conversation, &options) {
            // transformers does not look whether the tools are rendered.
            Err(tokenizer::Error::Chat(ChatError::ToolsVanish { .. })) => {
                let stated = std::mem::take(&mut conversation.tools);
                assert!(
                    !result["text"].as_str().unwrap().contains("Name of the city"),
                    "{result} {stated:?}"
                );
                continue;
            }
            other => other,
        };
        let wanted = result["text"].as_str();
        match (&ours, wanted) {
            (Ok(rendered), Some(wanted)) if rendered.text == wanted => {
                assert_eq!(fingerprint(&rendered.ids), result["ids"], "ids of {wanted:?}");
                assert_eq!(rendered.ids.len() as u64, result["tokens"].as_u64().unwrap());
                rendered_count += 1;
            }
            (Err(tokenizer::Error::Chat(ChatError::Refused { .. })), None) => {}
            _ => differences.push(format!(
                "{template}, {}, prompt {}:\n  theirs {}\n  ours   {:?}",
                result["case"],
                result["prompt"],
                wanted.map_or_else(|| result["error"].to_string(), |text| format!("{text:?}")),
                ours.map(|rendered| rendered.text)
            )),
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    rendered_count
}

#[test]
fn builtin_templates_render_as_the_published_ones_in_transformers() {
    let text = std::fs::read_to_string(data().join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let rendered = compare(&golden, builtin);
    // Counted, so that a golden file of errors cannot pass.
    assert!(rendered > 500, "{rendered} conversations");
    for (name, _) in BUILTINS {
        let named = golden["results"].as_array().unwrap().iter().filter(|result| result["template"] == name);
        assert!(named.filter(|result| result["text"].is_string()).count() > 25, "{name}");
    }
}

#[test]
fn published_templates_render_as_in_transformers() {
    let Ok(python) = std::env::var("TEXT2LLM_PYTHON") else {
        testkit::skip("TEXT2LLM_PYTHON names no Python that has transformers");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("live.json");
    let output = std::process::Command::new(python)
        .arg("../../tools/golden_chat.py")
        .arg("live")
        .arg(data())
        .arg("src/chat/templates")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let live: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    let templates = live["templates"].as_object().unwrap();
    println!("{} templates", templates.len());
    let rendered = compare(&live, |name| with_source(templates[name].as_str().unwrap()));
    assert!(rendered > 500, "{rendered} conversations");
}

#[test]
fn a_prompt_is_the_conversation_with_the_header_of_an_answer() {
    let renderer = builtin("chatml");
    let conversation = super::case("question only");
    let ids = renderer.prompt(&conversation, true).unwrap();
    let text = tokenizer().decode(&ids, false);
    assert_eq!(text, "<|im_start|>user\nWhat is 17 * 3?<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(renderer.template().map(ChatTemplate::origin), Some("the built-in `chatml`"));
}
