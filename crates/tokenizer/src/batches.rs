//! Encoding of many texts on all threads.

use std::sync::{Mutex, PoisonError};

use ahash::AHashMap;
use rayon::prelude::*;
use tokenizers::ModelWrapper;

use crate::tokenizer::{Encoder, encode_piece};
use crate::{Result, Tokenizer, threads};

/// Longer pieces are rare enough not to be cached.
const LONGEST_REMEMBERED_BYTES: usize = 64;
/// Number of cached pieces, a few megabytes: most of a text.
const MOST_REMEMBERED: usize = 1 << 17;
/// Texts per work item.
const TEXTS_PER_CHUNK: usize = 32;

/// Encodes batches of texts on all threads, and caches the ids of pieces between batches.
pub struct Batches<'a> {
    tokenizer: &'a Tokenizer,
    known: Mutex<Vec<Known>>,
}

/// A thread's cache: the start and number of the ids of each piece.
#[derive(Default)]
struct Known {
    places: AHashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

impl Tokenizer {
    /// A batch encoder.
    pub fn batches(&self) -> Batches<'_> {
        Batches { tokenizer: self, known: Mutex::default() }
    }
}

impl Batches<'_> {
    /// Encodes each text like [`Tokenizer::encode`], but faster.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], of the first text that fails.
    pub fn encode<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        let Encoder::Pieces(pieces) = &self.tokenizer.encoder else {
            let encode = |text: &S| self.tokenizer.encode(text.as_ref());
            let encoded: Vec<Result<Vec<u32>>> = threads::with(|| texts.par_iter().map(encode).collect());
            return encoded.into_iter().collect();
        };
        let (splitter, model) = pieces.as_ref();
        let of_chunk = |texts: &[S]| -> Vec<Vec<u32>> {
            let taken = self.known.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut known = taken.unwrap_or_default();
            let encoded = texts
                .iter()
                .map(|text| {
                    let text = self.tokenizer.normalize(text.as_ref());
                    let mut ids = Vec::with_capacity(text.len() / 3);
                    splitter.split(&text, |piece| known.encode(model, piece, &mut ids));
                    ids
                })
                .collect();
            self.known.lock().unwrap_or_else(PoisonError::into_inner).push(known);
            encoded
        };
        Ok(threads::with(|| texts.par_chunks(TEXTS_PER_CHUNK).flat_map_iter(of_chunk).collect()))
    }
}

impl Known {
    fn encode(&mut self, model: &ModelWrapper, piece: &str, ids: &mut Vec<u32>) {
        if let Some(&(start, count)) = self.places.get(piece) {
            ids.extend_from_slice(&self.ids[start as usize..][..count as usize]);
            return;
        }
        let before = ids.len();
        encode_piece(model, piece, ids);
        if piece.len() <= LONGEST_REMEMBERED_BYTES && self.places.len() < MOST_REMEMBERED {
            let new = &ids[before..];
            self.places.insert(piece.into(), (self.ids.len() as u32, new.len() as u32));
            self.ids.extend_from_slice(new);
        }
    }
}
