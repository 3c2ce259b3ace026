//! How a fine-tuned model answers held-out conversations: tool calls, and the voice of its answers.
//!
//! Every assistant turn of the data is generated again, greedily, after the messages before it. A turn is
//! right if it makes the calls of the data with equal arguments, or none where the data have none. A
//! classifier trained on the data's own answers tells whether generated ones sound like their label.
//!
//! Reading order: `options`, `questions` (what is asked), `score`, `voice`, then the evaluation here.

mod options;
mod questions;
mod score;
mod voice;

use std::path::Path;

use runs::report::{Phase, Reporter};
use tokenizer::chat::{Answer, ToolCall, same_calls};

use crate::generate::{Generated, Generator, Stopped};
use crate::{Error, Result};

pub use options::{EvalOptions, Sample};
use questions::Question;
pub use score::{Report, Scores, Share, VoiceReport};

/// Asks a model, opened for [`EvalOptions::extent`], and scores its answers. `on_sample` gets each turn as it
/// is finished, and returns whether to go on.
///
/// # Errors
/// Data that cannot be read; no conversation with an answer; a model without a chat template; a prompt that
/// is too long.
pub fn evaluate(
    generator: &mut Generator,
    options: &EvalOptions,
    base_dir: &Path,
    reporter: &mut dyn Reporter,
    on_sample: &mut dyn FnMut(&Sample) -> bool,
) -> Result<Report> {
    let classifier =
        options.voice.as_ref().map(|(key, files)| voice::train(key, files, base_dir)).transpose()?;
    let renderer = generator.renderer()?;
    let mut questions = questions::read(options, base_dir)?;
    // Answers that are generated together start with prompts of about the same length.
    questions.sort_by_key(|question| std::cmp::Reverse(question.conversation.messages.len()));
    let prompts = (questions.iter())
        .map(|question| {
            let prompt = renderer.prompt(&question.conversation, true);
            prompt.map_err(|error| Error::Data { message: format!("{}: {error}", question.place) })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(generator.source().to_owned());
    let mut tones = Vec::new();
    let mut finished = 0;
    let total = questions.len() as u64;
    generator.answer_each(&prompts, options.max_new_tokens, &mut |index, generated| {
        let question = &questions[index];
        let answer = Answer::parse(&generated.text);
        let sample = sample(question, &answer, &generated);
        report.add(&sample, !question.expected.is_empty());
        if let (Some(label), false) = (&question.label, answer.text.is_empty())
            && question.expected.is_empty()
        {
            tones.push((label.clone(), question.text.clone(), answer.text));
        }
        finished += 1;
        reporter.progress(Phase::Validation, finished, total, "answers");
        on_sample(&sample)
    })?;
    report.voice = classifier.map(|classifier| classifier.judge(&tones));
    Ok(report)
}

fn sample(question: &Question, answer: &Answer, generated: &Generated) -> Sample {
    let problems = answer.problems(&question.conversation.tools);
    let named =
        |call: &ToolCall| format!("{} {}", call.name, serde_json::Value::Object(call.arguments.clone()));
    Sample {
        place: question.place.clone(),
        message: question.conversation.messages.len(),
        group: question.group.clone(),
        expected: question.expected.iter().map(named).collect(),
        right: answer.broken.is_none() && same_calls(&answer.tool_calls, &question.expected),
        calls: answer.broken.is_some() || !answer.tool_calls.is_empty(),
        problems,
        generated: generated.text.clone(),
        truncated: generated.stopped == Stopped::Length,
    }
}
