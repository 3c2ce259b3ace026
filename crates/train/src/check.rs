//! Every mistake in `[train]`: values out of range, and keys that contradict each other.

use crate::options::TrainOptions;
use crate::ranges::Problem;
use crate::{Error, Result, phase, ranges};

impl TrainOptions {
    /// Every value outside the ranges of the schema, in the order of the keys, then contradictions between
    /// keys.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = ranges::problems(self);
        let mut refuse = |key: &str, message: String| {
            problems.push(Problem { key: key.to_owned(), message });
        };
        if self.steps.is_some() && self.epochs.is_some() {
            refuse("steps", "`epochs` and `steps` are both set: remove one".to_owned());
        }
        if self.micro_batch_size > 0 && !self.batch_size.is_multiple_of(self.micro_batch_size) {
            let batch_size = self.batch_size;
            let message = format!("must divide batch_size ({batch_size}), or be 0 to choose automatically");
            refuse("micro_batch_size", message);
        }
        problems.extend(phase::problems(self));
        problems
    }

    /// Returns the first of [`TrainOptions::problems`] as an error.
    pub fn validate(&self) -> Result<()> {
        match self.problems().into_iter().next() {
            None => Ok(()),
            Some(Problem { key, message }) => Err(Error::Option { key, message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_value_is_named() {
        let check = |text: &str, key: &str| {
            let options: TrainOptions = toml::from_str(text).unwrap();
            assert_eq!(
                options.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>(),
                [key],
                "{text}"
            );
            let message = options.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("train.{key}")), "{message}");
        };
        check("epochs = 0", "epochs");
        check("epochs = 1\nsteps = 1", "steps");
        check("batch_size = 0", "batch_size");
        check("batch_size = 6\nmicro_batch_size = 4", "micro_batch_size");
        check("sequence_length = 1", "sequence_length");
        check("learning_rate = 0.0", "learning_rate");
        check("learning_rate = nan", "learning_rate");
        check("minimum_learning_rate_ratio = 1.5", "minimum_learning_rate_ratio");
        check("warmup_ratio = -0.1", "warmup_ratio");
        check("beta2 = 1.0", "beta2");
        check("epsilon = 0.0", "epsilon");
        check("weight_decay = inf", "weight_decay");
        check("gradient_clip = -1.0", "gradient_clip");
        check("keep_last = 0", "keep_last");
        check("ema_decay = 1.0", "ema_decay");
        check("momentum = 1.0", "momentum");
        check("learning_rate_scales = { layer_decay = 0.0 }", "learning_rate_scales.layer_decay");
    }
}
