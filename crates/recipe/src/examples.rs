//! The recipes in `examples/`, embedded in the program.

/// The default recipe.
pub const QUICKSTART: &str = include_str!("../../../examples/quickstart.toml");

const EXAMPLES: [(&str, &str); 9] = [
    ("quickstart", QUICKSTART),
    ("quick-test", include_str!("../../../examples/quick-test.toml")),
    ("high-quality", include_str!("../../../examples/high-quality.toml")),
    ("low-memory", include_str!("../../../examples/low-memory.toml")),
    ("shakespeare-char", include_str!("../../../examples/shakespeare-char.toml")),
    ("linux-doc", include_str!("../../../examples/linux-doc.toml")),
    ("medical", include_str!("../../../examples/medical.toml")),
    ("finetune", include_str!("../../../examples/finetune.toml")),
    ("bilingual-20-epochs", include_str!("../../../examples/bilingual-20-epochs.toml")),
];

/// The text of an example.
pub fn find(name: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    EXAMPLES.iter().map(|(name, _)| *name).collect()
}
