//! Samples of the model in training: continuations of the recipe's prompts, and answers to conversations.

use compute::{AnyDevice, Target};
use model::TrainingModel;
use model::sampling::argmax;
use runs::run::RunDir;
use tokens::TokenDataset;
use train::StopFlag;

use crate::base::BaseModel;
use crate::generate::{Extent, Generator, Options};
use crate::meta::RunMeta;
use crate::record;

/// Samples during training. For prompts, the decoding model is created for each sample and dropped, so that
/// it takes no memory in between.
pub(super) struct Sampler<'a> {
    pub run: &'a RunDir,
    pub meta: &'a RunMeta,
    pub target: Target,
    /// The model that it started from.
    pub base: Option<&'a BaseModel>,
    /// The validation data, if there are any.
    pub validation: Option<&'a TokenDataset>,
    pub stop: &'a StopFlag,
}

/// Longest answer to a conversation, in tokens.
const ANSWER_TOKENS: usize = 128;
/// Characters of a conversation that are recorded with its answer: its end.
const PROMPT_CHARS: usize = 160;

type Sampled<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl train::Sampler<AnyDevice> for Sampler<'_> {
    fn sample(&mut self, model: &mut TrainingModel<AnyDevice>, prompts: &[String]) -> Sampled<Vec<String>> {
        let tokenizer = record::tokenizer(self.run, self.meta)?;
        let new_tokens = self.meta.recipe.train.sample_max_new_tokens;
        let extent = Extent::new(prompts.iter().map(String::as_str), new_tokens);
        let adapter = model.training().adapter.clone();
        let mut decoding = extent.decoder(model.config(), &tokenizer, adapter.clone(), self.target)?;
        match (adapter, self.base) {
            (Some(_), Some(base)) => {
                base.load(decoding.weights_mut())?;
                decoding.weights_mut().copy_adapters_from(model.weights_mut())?;
            }
            _ => decoding.weights_mut().copy_from(model.weights_mut())?,
        }
        let stop_ids = self.meta.stop_ids.clone();
        let mut generator =
            Generator::new(decoding, tokenizer, stop_ids, "the model in training".to_owned())?;
        let train = &self.meta.recipe.train;
        let options = Options {
            temperature: train.sample_temperature,
            top_p: 0.95,
            seed: train.seed,
            ..Options::greedy(train.sample_max_new_tokens)
        };
        let mut texts = Vec::new();
        for prompt in prompts {
            let text = generator.generate(prompt, &options, &mut |_| !self.stop.is_raised())?.text;
            // Interrupted samples are not what the model would write, so they are dropped.
            if self.stop.is_raised() {
                return Ok(Vec::new());
            }
            texts.push(text);
        }
        Ok(texts)
    }

    /// In the memory of the activations, so that it needs none of its own; where those are small, no
    /// conversation is answered.
    fn answer(&mut self, model: &mut TrainingModel<AnyDevice>) -> Sampled<Vec<(String, String)>> {
        let wanted = self.meta.recipe.train.sample_conversations;
        let data = self.validation.filter(|data| data.has_examples() && wanted > 0);
        let (Some(data), Some(base)) = (data, self.base) else { return Ok(Vec::new()) };
        let tokenizer = base.tokenizer();
        let all = data.document_count();
        let mut answers = Vec::new();
        for number in 0..wanted.min(all) {
            let prompt = data.prompt(number * all / wanted.min(all))?;
            let longest = (prompt.len() + ANSWER_TOKENS).min(model.config().max_position_embeddings);
            if prompt.is_empty() || prompt.len() >= longest {
                continue;
            }
            let Some(mut decoder) = model.decoder(longest) else { continue };
            let mut answer: Vec<u32> = Vec::new();
            let mut pending = prompt.clone();
            while prompt.len() + answer.len() < longest {
                // Interrupted samples are not what the model would write, so they are dropped.
                if self.stop.is_raised() {
                    return Ok(Vec::new());
                }
                let id = argmax(&decoder.decode(&pending)?[..tokenizer.vocab_size()]);
                if self.meta.stop_ids.contains(&id) {
                    break;
                }
                answer.push(id);
                pending = vec![id];
            }
            let asked = tokenizer.decode(&prompt, false);
            answers.push((end_of(&asked, PROMPT_CHARS), tokenizer.decode(&answer, false)));
        }
        Ok(answers)
    }
}

/// The last `chars` characters of a text.
fn end_of(text: &str, chars: usize) -> String {
    match text.char_indices().rev().nth(chars - 1) {
        Some((start, _)) if start > 0 => format!("…{}", &text[start..]),
        _ => text.to_owned(),
    }
}
