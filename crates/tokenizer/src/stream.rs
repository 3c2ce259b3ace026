//! Text from ids as they come: a character whose bytes lie in several tokens is held back until it is whole.

use crate::Tokenizer;

/// Decodes one token at a time. The texts of all [`StreamDecoder::push`] and [`StreamDecoder::finish`] together are
/// [`Tokenizer::decode`] of all ids.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    pending: Vec<u8>,
}

impl<'a> StreamDecoder<'a> {
    /// A decoder at the start of a text; special tokens are left out when `skip_special`.
    pub fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> StreamDecoder<'a> {
        StreamDecoder { tokenizer, skip_special, pending: Vec::new() }
    }

    /// Takes one id; what it completes, or `None` while a character is still missing bytes.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if !(self.skip_special && self.tokenizer.is_special(id)) {
            self.pending.extend_from_slice(self.tokenizer.token_bytes(id));
        }
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.pending.clear();
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    match error.error_len() {
                        // Can still become a character.
                        None => {
                            self.pending.drain(..valid);
                        }
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.pending.drain(..valid + length);
                            continue;
                        }
                    }
                }
            }
            return (!text.is_empty()).then_some(text);
        }
    }

    /// The end of the text: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}
