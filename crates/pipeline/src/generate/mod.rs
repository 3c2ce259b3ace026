//! Text generation with a trained model, from a model folder or a run's checkpoint.
//!
//! Reading order: `options`, `opening` (models of every form), then the loop here, `chat` and `batch`.

mod batch;
mod chat;
mod opening;
mod options;

use std::path::Path;
use std::time::Instant;

use compute::AnyDevice;
use model::sampling::{Sampler, SamplingOptions};
use model::{Decoder, ModelConfig, Weights};
use store::fs::RealFs;
use tokenizer::chat::{ChatTemplate, Clock, Conversation, Renderer, builtin_for};
use tokenizer::{StreamDecoder, Tokenizer};

use crate::stop_texts::StopGate;
use crate::{Error, Result};

pub use chat::Chat;
pub use opening::{Extent, Source};
pub(crate) use opening::{load_weights, verify};
pub use options::{Generated, Options, Stopped};

/// A model ready to generate.
pub struct Generator {
    model: Decoder<AnyDevice>,
    tokenizer: Tokenizer,
    /// Ids that end a text.
    stop_ids: Vec<u32>,
    /// Ids that are never generated: those without a token, and of a tokenizer made by this program the
    /// special tokens that end nothing.
    barred: Vec<u32>,
    /// Whether tokens carry the space before a word.
    spaced_words: bool,
    source: String,
    chat_template: Option<ChatTemplate>,
}

impl Generator {
    /// Uses a decoding model that is already loaded.
    ///
    /// # Errors
    /// A tokenizer whose size differs from the model's.
    pub fn new(
        model: Decoder<AnyDevice>,
        tokenizer: Tokenizer,
        stop_ids: Vec<u32>,
        source: String,
    ) -> Result<Generator> {
        if tokenizer.vocab_size() > model.config().vocab_size {
            return Err(Error::Data {
                message: format!(
                    "{source}: the tokenizer has {} tokens and the model {}: they do not match",
                    tokenizer.vocab_size(),
                    model.config().vocab_size
                ),
            });
        }
        let ids = 0..model.config().vocab_size as u32;
        let known = tokenizer.vocab_size() as u32;
        // Other models were trained to write some of theirs.
        let is_own = tokenizer.config_file().is_none();
        let is_barred =
            |id: u32| id >= known || (is_own && tokenizer.is_special(id) && !stop_ids.contains(&id));
        let barred = ids.filter(|&id| is_barred(id)).collect();
        let spaced_words = (0..known).any(|id| {
            let bytes = tokenizer.token_bytes(id);
            bytes.len() > 1 && bytes[0] == b' ' && bytes[1].is_ascii_alphabetic()
        });
        let chat_template = None;
        Ok(Generator { model, tokenizer, stop_ids, barred, spaced_words, source, chat_template })
    }

    /// The same with the chat template of a Jinja file, relative to `base_dir`, or the built-in one of that
    /// name.
    ///
    /// # Errors
    /// A template that cannot be read.
    pub fn with_template_of(self, name: &str, base_dir: &Path) -> Result<Generator> {
        let template = corpus::examples::template(&RealFs, name, base_dir)?;
        Ok(self.with_chat_template(Some(template)))
    }

    /// The same with another chat template, or none.
    pub(crate) fn with_chat_template(self, chat_template: Option<ChatTemplate>) -> Generator {
        Generator { chat_template, ..self }
    }

    /// Renders chats for this model: with its template, or a built-in one for its special tokens.
    ///
    /// # Errors
    /// A model without either.
    pub fn renderer(&self) -> Result<Renderer> {
        let template = match &self.chat_template {
            Some(template) => Some(template.clone()),
            None => builtin_for(|token| self.tokenizer.token_id(token).is_some())
                .map(ChatTemplate::builtin)
                .transpose()?,
        };
        // Dates in a template are today's for a conversation of today.
        let template = template.map(|template| template.with_clock(Clock::now()));
        if template.is_none() {
            return Err(Error::Argument {
                message: format!(
                    "{}: it has no chat template, and its vocabulary no tokens of a known one: fine-tune it on \
                     conversations first",
                    self.source
                ),
            });
        }
        Ok(Renderer::new(&self.tokenizer, template)?)
    }

    /// Answers the last message of a conversation.
    ///
    /// # Errors
    /// As [`Generator::generate`]; a conversation that the template refuses.
    pub fn chat(
        &mut self,
        renderer: &Renderer,
        conversation: &Conversation,
        options: &Options,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated> {
        let ids = renderer.prompt(conversation, true)?;
        self.generate_after(ids, options, on_text)
    }

    /// Description of the model's origin.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// Continues `prompt`. `on_text` gets each piece of text once it is final, and returns whether to
    /// continue.
    ///
    /// A prompt that ends in a space is a special case: tokens include the space before a word, so the model
    /// has rarely seen a trailing space alone. The space is removed, and the first token must start with one.
    ///
    /// A text longer than the context slides: when the context is full, generation continues from its second
    /// half.
    ///
    /// # Errors
    /// Options out of range; a text longer than the generator's capacity; errors of the model.
    pub fn generate(
        &mut self,
        prompt: &str,
        options: &Options,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated> {
        let (asked, space_owed) = self.without_last_space(prompt);
        let ids = self.start(asked)?;
        self.continue_ids(ids, Continuation { space_owed, skip_special: true, cached: 0 }, options, on_text)
    }

    /// Continues a prompt of ids, with BOS where the model wants it: a rendered chat.
    ///
    /// # Errors
    /// As [`Generator::generate`]; an empty prompt.
    pub fn generate_after(
        &mut self,
        ids: Vec<u32>,
        options: &Options,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated> {
        if ids.is_empty() {
            return Err(Error::Argument { message: "the prompt is empty".to_owned() });
        }
        let from = Continuation { space_owed: false, skip_special: false, cached: 0 };
        self.continue_ids(ids, from, options, on_text)
    }

    fn continue_ids(
        &mut self,
        mut ids: Vec<u32>,
        from: Continuation,
        options: &Options,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated> {
        options.check()?;
        let mut space_owed = from.space_owed;
        let start = Instant::now();
        let context = self.model.capacity();
        let prompt_tokens = ids.len();
        let longest = prompt_tokens.saturating_add(options.max_new_tokens);
        if longest > context && context < self.model.config().max_position_embeddings {
            return Err(Error::Argument {
                message: format!(
                    "a prompt of {prompt_tokens} tokens and {} new ones do not fit into the {context} tokens \
                     that the generator was opened for: open it with a larger `Extent`",
                    options.max_new_tokens
                ),
            });
        }
        // Leaves space for at least one new token; the end of the prompt matters most.
        let kept = prompt_tokens.min((context - 1).max(1));
        let cached = if kept == prompt_tokens { from.cached } else { 0 };
        let mut pending = ids[prompt_tokens - kept + cached..].to_vec();
        let mut sampler = Sampler::new(SamplingOptions {
            temperature: options.temperature as f32,
            top_k: options.top_k,
            top_p: options.top_p as f32,
            min_p: options.min_p as f32,
            repetition_penalty: options.repetition_penalty as f32,
            seed: options.seed,
        });
        let tokenizer = &self.tokenizer;
        let mut decoder = StreamDecoder::continuing(tokenizer, from.skip_special);
        let stop: Vec<String> =
            options.stop.iter().map(|text| tokenizer.normalize_within(text).into()).collect();
        let mut gate = StopGate::new(&stop);
        let mut written = 0;
        let mut stopped = Stopped::Length;
        self.model.truncate(0, cached);
        while written < options.max_new_tokens {
            if self.model.context_used(0) + pending.len() > context {
                self.model.reset();
                pending = ids[ids.len() - (context / 2).max(1)..].to_vec();
            }
            let mut logits = self.model.decode(&pending)?;
            for &id in &self.barred {
                logits[id as usize] = f32::NEG_INFINITY;
            }
            for &end in self.stop_ids.iter().filter(|_| options.ignore_end) {
                if let Some(logit) = logits.get_mut(end as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            if space_owed {
                for (id, logit) in (0..).zip(&mut logits) {
                    if !tokenizer.token_bytes(id).starts_with(b" ") {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
            let id = sampler.sample(&mut logits, &ids);
            written += 1;
            ids.push(id);
            pending.clear();
            pending.push(id);
            if self.stop_ids.contains(&id) {
                stopped = Stopped::End;
                break;
            }
            if let Some(mut text) = decoder.push(id) {
                if std::mem::take(&mut space_owed) {
                    // The prompt includes it already.
                    text.remove(0);
                }
                let certain = gate.push(&text);
                if !certain.is_empty() && !on_text(&certain) {
                    stopped = Stopped::Cancelled;
                    break;
                }
                if gate.closed {
                    stopped = Stopped::Stop;
                    break;
                }
            }
        }
        if stopped != Stopped::Stop && stopped != Stopped::Cancelled {
            let mut rest = decoder.finish().map(|text| gate.push(&text)).unwrap_or_default();
            rest.push_str(&gate.finish());
            if !rest.is_empty() {
                on_text(&rest);
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(Generated {
            text: gate.passed,
            tokens: written,
            ids: ids.split_off(prompt_tokens),
            prompt_tokens,
            prompt_tokens_dropped: prompt_tokens - kept,
            seconds,
            tokens_per_s: written as f64 / seconds.max(1e-9),
            stopped,
        })
    }

    /// The encoded prompt, and whether its trailing space was removed, to be part of the first token.
    fn without_last_space<'a>(&self, prompt: &'a str) -> (&'a str, bool) {
        match prompt.strip_suffix(' ') {
            // The last of several spaces does not belong to a word.
            Some(rest) if self.spaced_words && !rest.is_empty() && !rest.ends_with(char::is_whitespace) => {
                (rest, true)
            }
            _ => (prompt, false),
        }
    }

    /// What the model starts from: what the tokenizer puts before a text, and the encoded prompt.
    fn start(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer.prefix_ids().to_vec();
        ids.extend(self.tokenizer.encode(prompt)?);
        if ids.is_empty() {
            // A model needs a token to continue from: documents follow each other's end.
            ids.extend(self.tokenizer.bos_id().or(self.tokenizer.eos_id()));
        }
        if ids.is_empty() {
            return Err(Error::Argument {
                message:
                    "the prompt is empty, and the tokenizer has no token that begins a text: pass a prompt"
                        .into(),
            });
        }
        Ok(ids)
    }

    /// Logits (V) after BOS and `prompt`, truncated to the capacity.
    ///
    /// # Errors
    /// Errors of the model.
    pub fn logits(&mut self, prompt: &str) -> Result<Vec<f32>> {
        let mut ids = self.start(prompt)?;
        ids.truncate(self.model.capacity());
        self.model.reset();
        Ok(self.model.decode(&ids)?)
    }

    /// The weights, for an export.
    pub(crate) fn weights_mut(&mut self) -> &mut Weights<AnyDevice> {
        self.model.weights_mut()
    }
}

/// How a continuation follows its prompt.
#[derive(Clone, Copy)]
struct Continuation {
    /// The first token must begin with a space, which the prompt has already.
    space_owed: bool,
    /// Leave special tokens out of the text; an answer's mark tool calls.
    skip_special: bool,
    /// Tokens of the prompt, fewer than all, that the key/value cache begins with.
    cached: usize,
}
