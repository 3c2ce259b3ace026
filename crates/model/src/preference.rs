//! Learning from preferences: of two answers to a prompt, the chosen one becomes likelier than the rejected
//! one, by more than it is under the frozen base.
//!
//! With π the sum of an answer's log-probabilities under the adapted model, r under the base alone, and Δ =
//! (π − r of the chosen) − (π − r of the rejected), a pair's loss is a function of Δ. Its gradient is that of
//! the answers' cross-entropies, weighted by the derivative of the loss by Δ: so one forward of the base and
//! one of the model give the weights, and the backward is that of any other training.

use compute::{Batch, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::forward::Pass;
use crate::layout::TrainedRows;

/// The loss of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// −log σ(β·Δ) (DPO, Rafailov et al. 2023, arXiv:2305.18290).
    #[default]
    Sigmoid,
    /// (Δ − 1/(2β))², with mean instead of summed log-probabilities (IPO, Azar et al. 2023,
    /// arXiv:2310.12036).
    Ipo,
}

/// How preferences are learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// The loss of a pair.
    pub loss: PreferenceLoss,
    /// β: the larger, the closer the model stays to the base.
    pub beta: f64,
    /// ε of the sigmoid loss: the probability that a pair's order is wrong.
    pub label_smoothing: f64,
}

/// What pairs of a batch show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairOutcome {
    /// Σ loss.
    pub loss_sum: f64,
    /// Number of pairs.
    pub pairs: u64,
    /// Pairs with Δ > 0.
    pub right: u64,
}

impl Preference {
    /// The loss of a pair with margin Δ, and its derivative.
    pub fn loss_at(&self, margin: f64) -> (f64, f64) {
        match self.loss {
            PreferenceLoss::Sigmoid => {
                let z = self.beta * margin;
                // log σ(z), without overflow.
                let log_sigmoid = |z: f64| z.min(0.0) - (-z.abs()).exp().ln_1p();
                let sigmoid = |z: f64| log_sigmoid(z).exp();
                let (keep, flip) = (1.0 - self.label_smoothing, self.label_smoothing);
                let loss = -keep * log_sigmoid(z) - flip * log_sigmoid(-z);
                (loss, self.beta * (flip * sigmoid(z) - keep * sigmoid(-z)))
            }
            PreferenceLoss::Ipo => {
                let distance = margin - 1.0 / (2.0 * self.beta);
                (distance * distance, 2.0 * distance)
            }
        }
    }

    /// What an answer's sum over its tokens is multiplied by.
    fn share(&self, tokens: usize) -> f64 {
        match self.loss {
            PreferenceLoss::Sigmoid => 1.0,
            PreferenceLoss::Ipo => 1.0 / tokens as f64,
        }
    }
}

/// The answers of a batch, each as the rows that are trained: documents of a row with any, of which each two
/// are a pair, the chosen one first.
///
/// # Panics
/// For a row with an odd number of answers.
pub(crate) fn answers(batch: &Batch) -> Vec<Vec<usize>> {
    let mut answers: Vec<Vec<usize>> = Vec::new();
    for row in 0..batch.batch_size {
        let (first, mut document) = (answers.len(), None);
        for at in row * batch.sequence_length..(row + 1) * batch.sequence_length {
            if batch.weights[at] == 0.0 {
                continue;
            }
            if document != Some(batch.document_starts[at]) {
                document = Some(batch.document_starts[at]);
                answers.push(Vec::new());
            }
            if let Some(answer) = answers.last_mut() {
                answer.push(at);
            }
        }
        assert!((answers.len() - first).is_multiple_of(2), "invariant: answers come in pairs");
    }
    answers
}

/// Number of pairs in a batch.
pub fn pairs(batch: &Batch) -> u64 {
    answers(batch).len() as u64 / 2
}

/// The answers of a batch with their cross-entropies under the base and under the model.
pub(crate) struct Compared {
    pub answers: Vec<Vec<usize>>,
    base: Vec<f64>,
    model: Vec<f64>,
}

impl Compared {
    /// Loss of all pairs, and the weight of each answer's rows in the gradient.
    pub fn weighted(&self, preference: &Preference) -> (PairOutcome, Vec<f32>) {
        let mut outcome = PairOutcome::default();
        let mut weights = Vec::new();
        // Log-probabilities are the negative cross-entropies.
        let gain = |index: usize| {
            (self.base[index] - self.model[index]) * preference.share(self.answers[index].len())
        };
        for chosen in (0..self.answers.len()).step_by(2) {
            let margin = gain(chosen) - gain(chosen + 1);
            let (loss, slope) = preference.loss_at(margin);
            outcome.loss_sum += loss;
            outcome.pairs += 1;
            outcome.right += u64::from(margin > 0.0);
            for (index, sign) in [(chosen, -1.0), (chosen + 1, 1.0)] {
                weights.push((sign * slope * preference.share(self.answers[index].len())) as f32);
            }
        }
        (outcome, weights)
    }
}

impl<D: Device> Pass<'_, D> {
    /// The answers of a batch that is uploaded, under the base and under the model; the activations of the
    /// model's forward stay.
    pub fn compare(&mut self, batch: &Batch) -> Compared {
        let answers = answers(batch);
        self.without_adapters = true;
        self.forward(None);
        let base = self.answer_losses(batch, &answers);
        self.without_adapters = false;
        self.forward(None);
        let model = self.answer_losses(batch, &answers);
        Compared { answers, base, model }
    }

    /// The cross-entropy of each answer after a forward, summed over its tokens, in nats.
    fn answer_losses(&mut self, batch: &Batch, answers: &[Vec<usize>]) -> Vec<f64> {
        let buffers = self.buffers;
        let narrow = "answers are gathered in the MLP's buffer, which must be as wide as the stream";
        assert!(self.config.hidden_size <= buffers.hidden.columns, "{narrow}");
        let Some(TrainedRows { gather, .. }) = buffers.trained_rows else { return Vec::new() };
        let mut losses = Vec::with_capacity(answers.len());
        for rows in answers {
            let count = rows.len();
            let ids = |of: &dyn Fn(usize) -> u32| rows.iter().map(|&row| of(row)).collect::<Vec<u32>>();
            self.device.upload_ids(gather.column_range(0, count), &ids(&|row| row as u32));
            self.device.upload_ids(buffers.targets.column_range(0, count), &ids(&|row| batch.targets[row]));
            self.device.upload(buffers.token_weights.column_range(0, count), &vec![1.0; count]);
            self.clear_loss();
            self.trained_loss(count, None);
            losses.push(self.device.download_scalar(buffers.loss_sum));
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_differences_of_the_loss() {
        for (loss, label_smoothing) in
            [(PreferenceLoss::Sigmoid, 0.0), (PreferenceLoss::Sigmoid, 0.2), (PreferenceLoss::Ipo, 0.0)]
        {
            let preference = Preference { loss, beta: 0.3, label_smoothing };
            for margin in [-800.0, -3.0, -0.1, 0.0, 0.4, 7.0, 900.0] {
                let (value, slope) = preference.loss_at(margin);
                let at = |offset: f64| preference.loss_at(margin + offset).0;
                let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
                assert!(
                    value.is_finite() && (slope - difference).abs() < 1e-5 * (1.0 + slope.abs()),
                    "{loss:?} {margin}"
                );
            }
        }
        let plain = Preference { loss: PreferenceLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
        assert!((plain.loss_at(0.0).0 - std::f64::consts::LN_2).abs() < 1e-12);
    }

    #[test]
    fn answers_are_documents_with_trained_tokens() {
        let mut batch = Batch::new(2, 8);
        batch.document_starts = vec![0, 0, 0, 3, 3, 3, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7];
        for at in [1, 2, 4] {
            batch.weights[at] = 1.0;
        }
        assert_eq!(answers(&batch), [vec![1, 2], vec![4]]);
        assert_eq!(pairs(&batch), 1);
    }
}
