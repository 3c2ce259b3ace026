//! Streaming decoder: a character whose bytes are in several tokens is held back until it is complete.

use crate::Tokenizer;

/// Decodes one token at a time. The texts of all [`StreamDecoder::push`] and [`StreamDecoder::finish`]
/// together are [`Tokenizer::decode`] of all ids.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    pending: Vec<u8>,
}

impl<'a> StreamDecoder<'a> {
    /// A decoder at the start of a text; `skip_special` omits special tokens.
    pub fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> StreamDecoder<'a> {
        StreamDecoder { tokenizer, skip_special, pending: Vec::new() }
    }

    /// Adds an id; returns the text it completes, or `None` while a character is incomplete.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if !(self.skip_special && self.tokenizer.is_special(id)) {
            self.pending.extend_from_slice(self.tokenizer.token_bytes(id));
        }
        let (mut text, mut done) = (String::new(), 0);
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = done + invalid.len() == self.pending.len();
            let can_go_on = || std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if invalid.is_empty() || is_last && can_go_on() {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += invalid.len();
        }
        self.pending.drain(..done);
        (!text.is_empty()).then_some(text)
    }

    /// Ends the text: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Normalizer, TokenizerOptions};

    /// A token may be of any bytes, and of as many as a file says.
    #[test]
    fn bytes_that_are_no_text_take_linear_time() {
        let options = TokenizerOptions { kind: Kind::Byte, ..TokenizerOptions::default() };
        let tokenizer =
            crate::train([""; 0], &options, &Normalizer::text(), &mut runs::report::NoReport).expect("bytes");
        for (bytes, wanted) in [
            (&[0x80][..], "\u{fffd}"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82\xac", "€"),
            (b"\xf0\x9f\x99", "\u{fffd}"),
            (b"\xe2\x82a", "\u{fffd}a"),
        ] {
            let mut decoder = StreamDecoder::new(&tokenizer, false);
            decoder.pending = bytes.repeat(300_000);
            let begun = std::time::Instant::now();
            let text = decoder.push(u32::MAX).unwrap_or_default() + &decoder.finish().unwrap_or_default();
            assert!(begun.elapsed().as_secs() < 2, "{bytes:x?}: {:?}", begun.elapsed());
            assert!(text == wanted.repeat(300_000), "{bytes:x?}");
        }
    }
}
