//! What one micro-batch of token sequences carries from the loader to the model.

/// `batch_size` rows of `sequence_length` tokens, row-major (B, T).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// B: rows.
    pub batch_size: usize,
    /// T: tokens a row.
    pub sequence_length: usize,
    /// Input ids, B·T.
    pub tokens: Vec<u32>,
    /// The id that follows each input, B·T.
    pub targets: Vec<u32>,
    /// For each position the index within its row of the first token of its document: attention looks no
    /// further back.
    pub document_starts: Vec<u32>,
    /// Loss weight of each target; 0 = not trained.
    pub weights: Vec<f32>,
}

impl Batch {
    /// A batch of zeros with room for B·T positions.
    pub fn new(batch_size: usize, sequence_length: usize) -> Batch {
        let n = batch_size * sequence_length;
        Batch {
            batch_size,
            sequence_length,
            tokens: vec![0; n],
            targets: vec![0; n],
            document_starts: vec![0; n],
            weights: vec![0.0; n],
        }
    }

    /// Sum of the loss weights: the number of trained tokens when weights are 0 and 1.
    pub fn weight_sum(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }
}
