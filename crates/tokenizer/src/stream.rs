//! Streaming decoder: a character whose bytes are in several tokens is held back until it is complete.

use crate::Tokenizer;
use crate::decoder::strip;

/// Decodes one token at a time. The texts of all [`StreamDecoder::push`] and [`StreamDecoder::finish`]
/// together are [`Tokenizer::decode`] of all ids, with two exceptions: successive byte tokens that are not
/// UTF-8 as a whole give the characters that were complete before the first invalid byte, and
/// `clean_up_tokenization_spaces` is not applied.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    pending: Vec<u8>,
    /// Whether nothing has been decoded yet of a text that starts here.
    is_first: bool,
    /// What is still to be removed from the start of the text.
    to_strip: Option<(char, usize)>,
}

impl<'a> StreamDecoder<'a> {
    /// A decoder at the start of a text; `skip_special` omits special tokens.
    pub fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> StreamDecoder<'a> {
        let to_strip = tokenizer.decoder().strip;
        StreamDecoder { tokenizer, skip_special, pending: Vec::new(), is_first: true, to_strip }
    }

    /// A decoder of ids that continue a text, such as a prompt: spaces at the start are kept.
    pub fn continuing(tokenizer: &'a Tokenizer, skip_special: bool) -> StreamDecoder<'a> {
        StreamDecoder { is_first: false, to_strip: None, ..StreamDecoder::new(tokenizer, skip_special) }
    }

    /// Adds an id; returns the text it completes, or `None` while a character is incomplete.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let (decoder, shown) = (self.tokenizer.decoder(), self.tokenizer.shows(id, self.skip_special));
        let mut text = String::new();
        if shown && (decoder.byte_level || self.tokenizer.is_byte(id)) {
            self.pending.extend_from_slice(self.tokenizer.token_bytes(id));
        }
        self.take_complete(&mut text);
        if shown && !decoder.byte_level {
            let is_first = std::mem::take(&mut self.is_first);
            if !self.tokenizer.is_byte(id) {
                self.take_incomplete(&mut text);
                text.push_str(if decoder.spaced && !is_first { " " } else { "" });
                text.push_str(&self.tokenizer.text_of(id, is_first));
            }
        }
        self.without_start(text)
    }

    /// Takes all of `pending` but a last character that is incomplete.
    fn take_complete(&mut self, text: &mut String) {
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = done + invalid.len() == self.pending.len();
            let can_go_on = || std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if invalid.is_empty() || is_last && can_go_on() {
                break;
            }
            self.replace(invalid.len(), text);
            done += invalid.len();
        }
        self.pending.drain(..done);
    }

    /// Takes an incomplete character.
    fn take_incomplete(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            self.replace(self.pending.len(), text);
            self.pending.clear();
        }
    }

    /// Byte tokens that are not UTF-8 become one U+FFFD each, other bytes one together.
    fn replace(&self, bytes: usize, text: &mut String) {
        let count = if self.tokenizer.decoder().byte_level { 1 } else { bytes };
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, count));
    }

    fn without_start(&mut self, text: String) -> Option<String> {
        let Some((character, most)) = self.to_strip else { return (!text.is_empty()).then_some(text) };
        let rest = strip(&text, character, most);
        let left = most - (text.len() - rest.len()) / character.len_utf8();
        self.to_strip = (rest.is_empty() && left > 0).then_some((character, left));
        (!rest.is_empty()).then(|| rest.to_owned())
    }

    /// Ends the text: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let mut text = String::new();
        self.take_complete(&mut text);
        self.take_incomplete(&mut text);
        self.without_start(text)
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
