//! How a text is continued, and what comes of it.

use serde::Serialize;

use crate::{Error, Result};

/// Sampling options.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Maximum number of new tokens.
    pub max_new_tokens: usize,
    /// 0 means greedy decoding.
    pub temperature: f64,
    /// 0: off.
    pub top_k: usize,
    /// 1: off.
    pub top_p: f64,
    /// 0: off.
    pub min_p: f64,
    /// 1: off.
    pub repetition_penalty: f64,
    /// Random seed.
    pub seed: u64,
    /// Texts to stop before.
    pub stop: Vec<String>,
    /// Ignore the end-of-text token, for benchmarks.
    pub ignore_end: bool,
}

impl Options {
    /// Greedy decoding.
    pub fn greedy(max_new_tokens: usize) -> Options {
        Options {
            max_new_tokens,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            ignore_end: false,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::Argument { message });
        if !(0.0..=100.0).contains(&self.temperature) {
            return refuse(format!("--temperature {} must be from 0 to 100", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse(format!("--top-p {} must be more than 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse(format!("--min-p {} must be from 0 to 1", self.min_p));
        }
        if !(0.01..=100.0).contains(&self.repetition_penalty) {
            return refuse(format!(
                "--repetition-penalty {} must be from 0.01 to 100",
                self.repetition_penalty
            ));
        }
        Ok(())
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// The model generated the end-of-text token.
    End,
    /// A stop text occurred.
    Stop,
    /// The maximum number of tokens was reached.
    Length,
    /// The callback returned false.
    Cancelled,
}

/// The generated text and its statistics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generated {
    /// The continuation, without the prompt.
    pub text: String,
    /// Number of new tokens.
    pub tokens: usize,
    /// Their ids.
    #[serde(skip)]
    pub ids: Vec<u32>,
    /// Number of prompt tokens, BOS included.
    pub prompt_tokens: usize,
    /// Number of prompt tokens that were dropped to fit the context.
    pub prompt_tokens_dropped: usize,
    /// Seconds from the first prompt token to the last new one.
    pub seconds: f64,
    /// New tokens divided by that time.
    pub tokens_per_s: f64,
    /// Why it ended.
    pub stopped: Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_name_their_flag() {
        let mut options = Options::greedy(1);
        options.top_p = 0.0;
        assert!(options.check().expect_err("top_p 0").to_string().contains("--top-p 0"));
        options.top_p = f64::NAN;
        assert!(options.check().is_err());
    }
}
