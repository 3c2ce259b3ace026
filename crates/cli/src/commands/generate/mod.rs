//! `text2llm generate`: generate text from a prompt, streaming it to stdout.

mod conversation;

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use pipeline::generate::{Extent, Generator, Options};
use serde_json::{Value, json};

use crate::arguments::{GlobalArguments, WeightDtype};
use crate::failure::{Failure, Outcome};
use crate::model_source::{LONGEST_CHAT_TOKENS, SourceArguments};
use crate::output::Console;
use crate::select;

/// Generate text from a prompt with a trained model, streaming it to stdout
#[derive(Debug, Args)]
#[command(
    after_help = "Without --run and --model, uses model/ of the project, or else the best checkpoint of its \
                  latest\n\
                  run. With --json, the last line contains text, tokens and tokens_per_s.\n\
                  In a conversation, /reset starts over, /exit or Ctrl-D ends it, and Ctrl-C stops an answer."
)]
pub struct Arguments {
    #[command(flatten)]
    pub model: SourceArguments,
    /// Answer the prompt as a chat message, with the model's chat template; on a terminal without --prompt,
    /// a conversation
    #[arg(long)]
    pub chat: bool,
    /// Chat template instead of the model's: a built-in name, or a Jinja file
    #[arg(long, value_name = "NAME", requires = "chat")]
    pub chat_template: Option<String>,
    /// System message of the chat
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub system: Option<String>,
    /// JSON file of a conversation to continue: a list of messages, or an object with messages and tools
    #[arg(long, value_name = "FILE", requires = "chat", conflicts_with = "prompt")]
    pub messages: Option<PathBuf>,
    /// JSON file of a list of tools that the model may call (OpenAI's function schemas)
    #[arg(long, value_name = "FILE", requires = "chat")]
    pub tools: Option<PathBuf>,
    /// Data type of the weights; fewer bits are faster and less accurate [default: as stored in the model]
    #[arg(long, value_name = "DTYPE")]
    pub dtype: Option<WeightDtype>,
    /// Prompt [default: read from standard input]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Maximum number of tokens to generate
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 means greedy decoding, higher values are more varied
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    pub temperature: f64,
    /// Sample from the N most likely tokens; 0 disables the limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub top_k: usize,
    /// Sample from the smallest set of most likely tokens with this total probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Exclude tokens less likely than P times the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub min_p: f64,
    /// Penalty for tokens that have already occurred; 1 disables it
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// Stop before this text; can be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Ignore the end-of-text token and generate all tokens; `run` measures latency with it
    #[arg(long, hide = true)]
    pub ignore_end: bool,
    /// Generate N times and report each duration in ms (with --json); `run` measures latency with it
    #[arg(long, value_name = "N", hide = true, default_value_t = 1)]
    pub repeat: usize,
}

/// Generates and streams the text.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let source = arguments.model.source(console)?;
    let has_prompt = arguments.prompt.is_some() || arguments.messages.is_some();
    let converses = arguments.chat && !has_prompt && console.is_human() && std::io::stdin().is_terminal();
    let prompt = match &arguments.prompt {
        Some(prompt) => prompt.clone(),
        None if has_prompt || converses => String::new(),
        None => prompt_from_stdin(console)?,
    };
    let record =
        if arguments.chat { Some(record(&arguments, (!converses).then_some(&prompt))?) } else { None };
    let options = Options {
        max_new_tokens: arguments.max_new_tokens,
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        min_p: arguments.min_p,
        repetition_penalty: arguments.repetition_penalty,
        seed: global.seed.unwrap_or_else(clock_seed),
        stop: arguments.stop.clone(),
        ignore_end: arguments.ignore_end,
    };
    if !converses {
        crate::stopping::listen(console)?;
    }
    let extent = match &record {
        Some(_) => Extent::chat(LONGEST_CHAT_TOKENS, options.max_new_tokens),
        None => Extent::new([prompt.as_str()], options.max_new_tokens),
    };
    let dtype = arguments.dtype.map(WeightDtype::dtype);
    let mut generator = Generator::open(&project, &source, global.target(), dtype, &extent)?;
    if let Some(name) = &arguments.chat_template {
        generator = generator.with_template_of(name, &std::env::current_dir()?)?;
    }
    if let (true, Some(record)) = (converses, &record) {
        return conversation::converse(&mut generator, record, &options, console);
    }
    let conversation = record.as_ref().map(conversation::to_answer).transpose()?;
    let renderer = conversation.is_some().then(|| generator.renderer()).transpose()?;
    if console.is_human() && conversation.is_none() {
        console.stream_text(&prompt)?;
    }
    let mut latencies_ms = Vec::new();
    let mut last = None;
    for _ in 0..arguments.repeat.max(1) {
        let mut failed = None;
        let quiet = arguments.repeat > 1;
        let human = console.is_human();
        let mut on_text = |text: &str| {
            let written = match (quiet, human) {
                (true, _) => Ok(()),
                (false, true) => console.stream_text(text),
                (false, false) => console.result("text", &json!({ "text": text })),
            };
            // Generation ends if the reader of stdout has closed it.
            written.map_err(|failure| failed = Some(failure)).is_ok()
        };
        let generated = match (&conversation, &renderer) {
            (Some(conversation), Some(renderer)) => {
                generator.chat(renderer, conversation, &options, &mut on_text)?
            }
            _ => generator.generate(&prompt, &options, &mut on_text)?,
        };
        if let Some(failure) = failed {
            return Err(failure);
        }
        latencies_ms.push((generated.seconds * 1e6).round() / 1e3);
        last = Some(generated);
    }
    let Some(generated) = last else { return Ok(()) };
    if console.is_human() {
        console.stream("\n")?;
        console.prose(&format!(
            "{} tokens, {:.0} tokens/s{}",
            generated.tokens,
            generated.tokens_per_s,
            if generated.prompt_tokens_dropped > 0 {
                format!(
                    "; the first {} tokens of the prompt were dropped to fit the context",
                    generated.prompt_tokens_dropped
                )
            } else {
                String::new()
            }
        ));
        return Ok(());
    }
    let value = json!({
        "text": generated.text,
        "prompt": prompt,
        "tokens": generated.tokens,
        "prompt_tokens": generated.prompt_tokens,
        "tokens_per_s": generated.tokens_per_s,
        "seconds": generated.seconds,
        "stopped": generated.stopped,
        "source": generator.source(),
        "seed": options.seed,
        "latencies_ms": latencies_ms,
        "rss_bytes": store::system::rss_bytes(),
        "peak_rss_bytes": store::system::peak_rss_bytes(),
    });
    console.result("generated", &value)
}

/// The conversation to continue: messages and tools. `prompt`: the last message, where no file has it;
/// `None`: messages are to follow.
fn record(arguments: &Arguments, prompt: Option<&String>) -> Outcome<Value> {
    let mut record = match &arguments.messages {
        None => {
            let messages = prompt.map(|prompt| json!({ "role": "user", "content": prompt }));
            json!({ "messages": messages.as_slice() })
        }
        Some(path) => match read_json(path)? {
            messages @ Value::Array(_) => json!({ "messages": messages }),
            record => record,
        },
    };
    if let (Some(system), Some(messages)) = (&arguments.system, record["messages"].as_array_mut()) {
        messages.insert(0, json!({ "role": "system", "content": system }));
    }
    if let Some(path) = &arguments.tools {
        record["tools"] = read_json(path)?;
    }
    Ok(record)
}

fn read_json(path: &Path) -> Outcome<Value> {
    let text = std::fs::read(path)
        .map_err(|error| Failure::message(format!("cannot read `{}`: {error}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::message(format!("`{}` is not JSON: {error}", path.display())))
}

fn prompt_from_stdin(console: &mut Console) -> Outcome<String> {
    if std::io::stdin().is_terminal() {
        if !console.is_human() {
            return Err(Failure::message("generate: pass --prompt, or the prompt on standard input"));
        }
        console.prose("Type the prompt, then press Ctrl-D:");
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::message("generate: the prompt on standard input is not UTF-8 text"))?;
    // `echo "The" | …` ends its line; the line ending is not part of the prompt.
    Ok(text.strip_suffix('\n').map(|t| t.strip_suffix('\r').unwrap_or(t)).unwrap_or(&text).to_owned())
}

fn clock_seed() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos() as u64)
}
