//! The tokenizer from text to files and back.
#![allow(clippy::unwrap_used)] // a test says what broke by panicking

mod chat;
mod encoding;
mod files;
mod foreign;
mod gguf_export;
mod hostile;
mod long_runs;
mod training;
mod transformers;

use runs::report::NoReport;
use tokenizer::{Kind, Normalizer, Tokenizer, TokenizerOptions};

/// A small bilingual text with something of everything.
fn texts() -> Vec<String> {
    let sentences = [
        "The quick brown fox jumps over the lazy dog. It's the 1st of 25 days, isn't it?\n\n",
        "Le renard brun saute par-dessus le chien paresseux ; c'est l'été, n'est-ce pas ?\n",
        "Select the text that you want to format, and then choose Format - Character.\n",
        "Sélectionnez le texte à mettre en forme, puis choisissez Format - Caractère.\n",
        "fn main() {\n    let x = 42;\n\tprintln!(\"{x}\");\n}\n",
    ];
    (0..60).map(|i| format!("{}{}", sentences[i % 5], sentences[(i * 7 + i / 5) % 5])).collect()
}

fn options(kind: Kind, vocab_size: usize) -> TokenizerOptions {
    TokenizerOptions { kind, vocab_size, ..TokenizerOptions::default() }
}

fn trained(options: &TokenizerOptions) -> Tokenizer {
    tokenizer::train(texts(), options, &Normalizer::text(), &mut NoReport).unwrap()
}
