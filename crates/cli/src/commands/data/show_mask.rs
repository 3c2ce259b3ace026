//! `text2llm data show-mask`: print an example with what is trained of it.

use std::path::PathBuf;

use clap::Args;
use corpus::examples::{FinetuneOptions, Records, Shown, first_example};
use pipeline::chat_model::ChatModel;
use serde_json::{Value, json};
use store::fs::RealFs;

use crate::failure::{Failure, Outcome};
use crate::model_source::model_path;
use crate::output::Console;

/// Print an example with the tokens that are trained
///
/// Renders a record with the model's chat template, as `finetune` does. Trained text stands in ⟦ ⟧. With
/// --json, prints ids and mask too.
#[derive(Debug, Args)]
pub struct Arguments {
    /// File of examples: .jsonl, .json or .parquet
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Number of the record, from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub line: u64,
    #[command(flatten)]
    pub model: ModelArguments,
    /// Write an HTML page that highlights what is trained
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The model that examples are rendered for.
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// Model folder, GGUF file, or hf://OWNER/NAME[@REVISION][/FILE.gguf], whose tokenizer and chat template
    /// are used
    #[arg(long, value_name = "MODEL")]
    pub init: Option<PathBuf>,
    /// Chat template instead of the model's: a built-in name, or a Jinja file
    #[arg(long, value_name = "NAME")]
    pub chat_template: Option<String>,
}

impl ModelArguments {
    /// The options of `[finetune]` that these flags set.
    pub fn options(&self) -> FinetuneOptions {
        FinetuneOptions { chat_template: self.chat_template.clone(), ..FinetuneOptions::default() }
    }

    /// Opens the model, if one is named.
    pub fn open(&self, console: &Console) -> Outcome<Option<ChatModel>> {
        let Some(init) = &self.init else { return Ok(None) };
        let init = model_path(init, console)?;
        Ok(Some(ChatModel::open(&init, &self.options(), &std::env::current_dir()?)?))
    }
}

/// Prints the example.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let model = arguments.model.open(console)?.ok_or_else(|| {
        Failure::message("data show-mask: name the model whose chat template is used, with --init MODEL")
    })?;
    let place = format!("{}:{}", arguments.file, arguments.line);
    let record = record(&arguments.file, arguments.line)?;
    let (example, shown) = first_example(&model.renderer, &arguments.model.options(), &record)
        .map_err(|error| Failure::message(format!("{place}: {error}")))?;
    if let Some(path) = &arguments.html {
        store::atomic::write(&RealFs, path, page(&place, &shown).as_bytes())?;
    }
    let trained = example.mask.iter().skip(1).filter(|&&trained| trained).count();
    if !console.is_human() {
        let value = json!({
            "place": place,
            "ids": example.ids,
            "mask": example.mask,
            "tokens": example.ids.len(),
            "trained_tokens": trained,
            "pieces": shown,
        });
        return console.result("mask", &value);
    }
    let mut text = String::new();
    for piece in &shown {
        let (open, close) = if piece.trained { ("⟦", "⟧") } else { ("", "") };
        text.push_str(&format!("{open}{}{close}", piece.text));
    }
    console.text(&text)?;
    console.prose(&format!("{place}: {trained} of {} tokens are trained", example.ids.len()));
    Ok(())
}

/// A record of a file.
fn record(file: &str, line: u64) -> Outcome<Value> {
    let records = Records::find(&RealFs, &[file.to_owned()], &std::env::current_dir()?)?;
    let (mut found, mut number) = (None, 0);
    records.each(&RealFs, &mut |place, value| {
        number += 1;
        if found.is_none() && (place.line == line || number == line) {
            found = Some(value);
        }
        Ok(())
    })?;
    match found {
        Some(Ok(value)) => Ok(value),
        Some(Err(problem)) => Err(Failure::message(format!("{file}:{line}: {problem}"))),
        None => Err(Failure::message(format!("`{file}` has {number} records; there is no record {line}"))),
    }
}

fn page(title: &str, shown: &[Shown]) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body: String = shown
        .iter()
        .map(|piece| match piece.trained {
            true => format!("<mark>{}</mark>", escape(&piece.text)),
            false => escape(&piece.text),
        })
        .collect();
    format!(
        "<!doctype html><html><head><meta charset=\"utf-8\"><title>{0}</title><style>body{{font:15px/1.5 \
         monospace;max-width:60rem;margin:2rem auto;padding:0 1rem;white-space:pre-wrap}}mark{{background:#b7e4c7}}\
         </style></head><body><p>{0}: trained tokens are highlighted.</p>{body}</body></html>\n",
        escape(title)
    )
}
