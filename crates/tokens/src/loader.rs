//! Batches of windows over the token stream, shuffled anew each epoch, from any point.
//!
//! An epoch cuts the stream, taken as a ring, into windows of T tokens from a random start below T, and
//! serves them in random order. Every token is an input exactly once an epoch: the last window is padded
//! where T does not divide the stream. Offset and order are functions of seed and epoch, so a cursor of two
//! numbers resumes exactly. A batch that an epoch does not fill is filled from the next.
//!
//! Within a row, attention and targets stop at document borders: `document_starts` says where each token's
//! document begins, and the last token of a document has a target of weight 0.

use compute::Batch;
use compute::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, TokenDataset};

/// What a loader serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// B: rows a batch.
    pub batch_size: usize,
    /// T: tokens a row.
    pub sequence_length: usize,
    /// Of offsets and orders.
    pub seed: u64,
    /// Random start and order; otherwise from the stream's start, in order.
    pub shuffle: bool,
}

/// Where a loader stands: the next window to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderCursor {
    /// From 0.
    pub epoch: u64,
    /// Windows of this epoch that were served.
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
    windows: Windows,
    order: Vec<u32>,
}

impl<'a> Loader<'a> {
    /// A loader at the start of epoch 0.
    ///
    /// # Errors
    /// Data that does not fill one batch.
    pub fn new(dataset: &'a TokenDataset, options: LoaderOptions) -> Result<Loader<'a>> {
        let LoaderOptions { batch_size, sequence_length, .. } = options;
        let tokens = dataset.token_count();
        let windows = Loader::windows_per_epoch(tokens, sequence_length);
        if batch_size == 0 || windows == 0 {
            let message = format!(
                "the training data has {tokens} tokens, fewer than one sequence of {sequence_length}: lower \
                 train.sequence_length or add text"
            );
            return Err(Error::Data { message });
        }
        if windows < batch_size as u64 || u32::try_from(windows).is_err() {
            let message = format!(
                "the training data has {tokens} tokens, that is {windows} sequences of {sequence_length}, where one batch \
                 takes {batch_size}: lower train.batch_size or train.sequence_length, or add text"
            );
            return Err(Error::Data { message });
        }
        let epoch = Epoch::new(dataset, options, 0);
        Ok(Loader { dataset, options, cursor: LoaderCursor::default(), epoch })
    }

    /// Windows that an epoch over `tokens` tokens has; 0 when there are fewer than one window takes.
    pub fn windows_per_epoch(tokens: u64, sequence_length: usize) -> u64 {
        if tokens < sequence_length as u64 { 0 } else { Windows::in_order(tokens, sequence_length).count() }
    }

    /// Tokens that an epoch serves as inputs: each once.
    pub fn tokens_per_epoch(&self) -> u64 {
        self.dataset.token_count()
    }

    /// Fills `batch` with the next windows, in the loader's shape.
    ///
    /// # Errors
    /// A shard that changed since it was opened; the disk. The loader is then where it was before, or within
    /// the batch.
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
            fill_row(self.dataset, self.epoch.windows.span(window.into()), batch, row)?;
            self.cursor.window += 1;
            if self.cursor.window == self.epoch.order.len() as u64 {
                self.cursor = LoaderCursor { epoch: self.cursor.epoch + 1, window: 0 };
            }
        }
        Ok(())
    }

    /// Where the loader stands.
    pub fn cursor(&self) -> LoaderCursor {
        self.cursor
    }

    /// Goes to where `cursor` was taken, also within what was a batch.
    ///
    /// # Errors
    /// A cursor beyond the epoch: it was taken over other data or another sequence length.
    pub fn seek(&mut self, cursor: &LoaderCursor) -> Result<()> {
        let windows = self.epoch.order.len() as u64;
        if cursor.window >= windows {
            let message = format!(
                "the loader cannot go to window {} of an epoch of {windows}: the checkpoint belongs to other data or another \
                 train.sequence_length; restore them, or start a new run",
                cursor.window
            );
            return Err(Error::Data { message });
        }
        self.cursor = *cursor;
        Ok(())
    }

    /// Epochs served at `cursor`, with the fraction.
    pub fn epochs_at(&self, cursor: &LoaderCursor) -> f64 {
        cursor.epoch as f64 + cursor.window as f64 / self.epoch.order.len() as f64
    }
}

impl Epoch {
    fn new(dataset: &TokenDataset, options: LoaderOptions, number: u64) -> Epoch {
        let mut windows = Windows::in_order(dataset.token_count(), options.sequence_length);
        let mut order: Vec<u32> = (0..windows.count() as u32).collect();
        if options.shuffle {
            let mut rng = Rng::from_parts(options.seed, "loader", &[number]);
            windows.offset = rng.below(options.sequence_length as u64);
            rng.shuffle(&mut order);
        }
        Epoch { number, windows, order }
    }
}

/// The stream, as a ring, cut into windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    tokens: u64,
    sequence_length: u64,
    offset: u64,
}

/// A window: its first token in the stream, and how many tokens it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u64,
    len: usize,
}

impl Windows {
    pub fn in_order(tokens: u64, sequence_length: usize) -> Windows {
        Windows { tokens, sequence_length: sequence_length.max(1) as u64, offset: 0 }
    }

    pub fn count(&self) -> u64 {
        self.tokens.div_ceil(self.sequence_length)
    }

    pub fn span(&self, window: u64) -> Span {
        let before = window * self.sequence_length;
        let len = self.sequence_length.min(self.tokens - before) as usize;
        Span { start: (self.offset + before) % self.tokens, len }
    }
}

/// Puts a window into a row: runs of tokens, each within one document.
pub(crate) fn fill_row(dataset: &TokenDataset, span: Span, batch: &mut Batch, row: usize) -> Result<()> {
    let first = row * batch.sequence_length;
    let (mut position, mut at) = (span.start, 0);
    while at < span.len {
        let end = dataset.document_end(position)?;
        let run = ((end - position) as usize).min(span.len - at);
        let ends_document = position + run as u64 == end;
        let place = first + at..first + at + run;
        dataset.copy(position, &mut batch.tokens[place.clone()])?;
        // Each target is the token after; within the run they are at hand.
        batch.targets[place.start..place.end - 1].copy_from_slice(&batch.tokens[place.start + 1..place.end]);
        let last = &mut batch.targets[place.end - 1..place.end];
        if ends_document {
            last[0] = dataset.bos_id();
        } else {
            dataset.copy(position + run as u64, last)?;
        }
        batch.document_starts[place.clone()].fill(at as u32);
        batch.weights[place.clone()].fill(1.0);
        if ends_document {
            batch.weights[place.end - 1] = 0.0;
        }
        at += run;
        position = (position + run as u64) % dataset.token_count();
    }
    pad_row(dataset, batch, row, span.len);
    Ok(())
}

/// Fills a row from `at` with padding; each of its tokens is a document of its own, and none has weight.
pub(crate) fn pad_row(dataset: &TokenDataset, batch: &mut Batch, row: usize, at: usize) {
    let (first, end) = (row * batch.sequence_length, (row + 1) * batch.sequence_length);
    batch.tokens[first + at..end].fill(dataset.pad_id());
    batch.targets[first + at..end].fill(dataset.pad_id());
    batch.weights[first + at..end].fill(0.0);
    for place in first + at..end {
        batch.document_starts[place] = (place - first) as u32;
    }
}
