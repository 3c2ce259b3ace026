//! Built-in templates of the families, for folders without one.
//!
//! Written for this program; they render what the published ones render (`tools/golden_chat.py` compares).

/// Name and source of each built-in template.
pub const BUILTINS: [(&str, &str); 11] = [
    ("chatml", include_str!("templates/chatml.jinja")),
    ("llama3", include_str!("templates/llama3.jinja")),
    ("llama3.1", include_str!("templates/llama3.1.jinja")),
    ("mistral", include_str!("templates/mistral.jinja")),
    ("phi3", include_str!("templates/phi3.jinja")),
    ("gemma", include_str!("templates/gemma.jinja")),
    ("gemma3", include_str!("templates/gemma3.jinja")),
    ("zephyr", include_str!("templates/zephyr.jinja")),
    ("smollm2", include_str!("templates/smollm2.jinja")),
    ("qwen2.5", include_str!("templates/qwen2.5.jinja")),
    ("qwen3", include_str!("templates/qwen3.jinja")),
];

/// Tokens that tell a family, most specific first. Zephyr writes its roles as ordinary text, and is chosen by
/// name only.
const SIGNS: [(&str, &[&str]); 10] = [
    ("llama3.1", &["<|start_header_id|>", "<|eot_id|>", "<|eom_id|>"]),
    ("llama3", &["<|start_header_id|>", "<|eot_id|>"]),
    ("mistral", &["[INST]", "[/INST]", "[TOOL_CALLS]"]),
    ("gemma3", &["<start_of_turn>", "<end_of_turn>", "<start_of_image>"]),
    ("gemma", &["<start_of_turn>", "<end_of_turn>"]),
    ("qwen3", &["<|im_start|>", "<|im_end|>", "<tool_response>", "<think>"]),
    ("qwen2.5", &["<|im_start|>", "<|im_end|>", "<tool_call>", "<|vision_start|>"]),
    ("smollm2", &["<|im_start|>", "<|im_end|>", "<jupyter_script>"]),
    ("chatml", &["<|im_start|>", "<|im_end|>"]),
    ("phi3", &["<|user|>", "<|assistant|>", "<|end|>"]),
];

/// The name of the built-in template for a vocabulary, by its special tokens. `has` says whether the
/// vocabulary has an added token of this spelling.
pub fn builtin_for(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    SIGNS.into_iter().find(|(_, tokens)| tokens.iter().all(|token| has(token))).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_tokens() {
        let of = |tokens: &[&str]| builtin_for(|token| tokens.contains(&token));
        assert_eq!(of(&["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]), Some("chatml"));
        assert_eq!(of(&["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]), Some("llama3"));
        assert_eq!(of(&["<start_of_turn>", "<end_of_turn>"]), Some("gemma"));
        assert_eq!(of(&["<s>", "</s>"]), None);
        for (name, _) in SIGNS {
            assert!(BUILTINS.iter().any(|(builtin, _)| *builtin == name), "{name}");
        }
    }
}
