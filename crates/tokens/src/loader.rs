//! Serves batches of windows over the token stream, shuffled anew each epoch, starting from any position.
//!
//! An epoch cuts the stream, taken as a ring, into windows of T tokens from a random start below T, and
//! serves them in random order. Every token is an input exactly once per epoch: the last window is padded if
//! T does not divide the stream. Offset and order are functions of seed and epoch, so a cursor of two numbers
//! resumes exactly. A batch that an epoch does not fill is filled from the next. Examples are packed into
//! rows once, and the rows are served in another order each epoch.
//!
//! Within a row, attention and targets stop at document boundaries: `document_starts` has the start of each
//! token's document, and the last token of a document has a target of weight 0.

use compute::Batch;
use compute::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::dataset::Rows;
use crate::{Error, Result, TokenDataset};

/// Options of a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// B: rows per batch.
    pub batch_size: usize,
    /// T: tokens per row.
    pub sequence_length: usize,
    /// Seed of offsets and orders.
    pub seed: u64,
    /// Random start and order; otherwise sequential from the stream's start.
    pub shuffle: bool,
}

/// Position of a loader: the next window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderCursor {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Windows served of this epoch.
    pub window: u64,
}

/// Serves the training batches.
#[derive(Clone, Debug)]
pub struct Loader<'a> {
    dataset: &'a TokenDataset,
    options: LoaderOptions,
    cursor: LoaderCursor,
    epoch: Epoch,
}

/// One epoch's windows and their order.
#[derive(Clone, Debug)]
struct Epoch {
    number: u64,
    rows: Rows,
    order: Vec<u32>,
}

impl<'a> Loader<'a> {
    /// A loader at the start of epoch 0.
    ///
    /// # Errors
    /// Data that do not fill one batch, or too many sequences for one epoch.
    pub fn new(dataset: &'a TokenDataset, options: LoaderOptions) -> Result<Loader<'a>> {
        let LoaderOptions { batch_size, sequence_length, .. } = options;
        let tokens = dataset.token_count();
        let windows = dataset.sequences(sequence_length);
        if batch_size == 0 || windows == 0 {
            return Err(Error::TooFewTokens { tokens, sequence_length });
        }
        if windows < batch_size as u64 {
            return Err(Error::TooFewSequences { tokens, sequences: windows, sequence_length, batch_size });
        }
        if u32::try_from(windows).is_err() {
            return Err(Error::TooManySequences { sequences: windows, sequence_length });
        }
        let epoch = Epoch::new(dataset, options, 0);
        Ok(Loader { dataset, options, cursor: LoaderCursor::default(), epoch })
    }

    /// Input tokens per epoch: each token once.
    pub fn tokens_per_epoch(&self) -> u64 {
        self.dataset.token_count()
    }

    /// Fills `batch` with the next windows, in the loader's shape.
    ///
    /// # Errors
    /// A shard that has changed since it was opened; I/O errors. The loader is then at its previous position,
    /// or within the batch.
    pub fn next_batch(&mut self, batch: &mut Batch) -> Result<()> {
        let LoaderOptions { batch_size, sequence_length, .. } = self.options;
        if (batch.batch_size, batch.sequence_length) != (batch_size, sequence_length) {
            *batch = Batch::new(batch_size, sequence_length);
        }
        for row in 0..batch_size {
            if self.epoch.number != self.cursor.epoch {
                self.epoch = Epoch::new(self.dataset, self.options, self.cursor.epoch);
            }
            let window = self.epoch.order[self.cursor.window as usize];
            self.dataset.fill(&self.epoch.rows, window.into(), batch, row)?;
            self.cursor.window += 1;
            if self.cursor.window == self.epoch.order.len() as u64 {
                self.cursor = LoaderCursor { epoch: self.cursor.epoch + 1, window: 0 };
            }
        }
        Ok(())
    }

    /// The current position.
    pub fn cursor(&self) -> LoaderCursor {
        self.cursor
    }

    /// Seeks to `cursor`, also within a batch.
    ///
    /// # Errors
    /// A cursor beyond the epoch: it belongs to other data or another sequence length.
    pub fn seek(&mut self, cursor: &LoaderCursor) -> Result<()> {
        let windows = self.epoch.order.len() as u64;
        if cursor.window >= windows {
            return Err(Error::CursorBeyond { window: cursor.window, windows });
        }
        self.cursor = *cursor;
        Ok(())
    }

    /// Epochs served at `cursor`, with the fraction of the current one.
    pub fn epochs_at(&self, cursor: &LoaderCursor) -> f64 {
        cursor.epoch as f64 + cursor.window as f64 / self.epoch.order.len() as f64
    }
}

impl Epoch {
    fn new(dataset: &TokenDataset, options: LoaderOptions, number: u64) -> Epoch {
        let mut rows = dataset.rows(options.sequence_length);
        let mut order: Vec<u32> = (0..rows.count() as u32).collect();
        if options.shuffle {
            let mut rng = Rng::from_parts(options.seed, "loader", &[number]);
            let offset = rng.below(options.sequence_length as u64);
            if let Rows::Windows(windows) = &mut rows {
                windows.offset = offset;
            }
            rng.shuffle(&mut order);
        }
        Epoch { number, rows, order }
    }
}
