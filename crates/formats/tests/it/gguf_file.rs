//! GGUF files, written byte by byte.

use std::io::Cursor;
use std::path::Path;

use formats::gguf::{self, Reader};
use formats::hf::Config;

pub const ALIGNMENT: usize = 32;

/// A file under construction.
#[derive(Clone)]
pub struct File {
    pub version: u32,
    pub keys: Vec<(String, Vec<u8>)>,
    /// Name, shape outermost first, type, data.
    pub tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn u32_value(value: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), value.to_le_bytes()].concat()
}

pub fn f32_value(value: f32) -> Vec<u8> {
    [6u32.to_le_bytes(), value.to_le_bytes()].concat()
}

pub fn string_value(text: &str) -> Vec<u8> {
    [&8u32.to_le_bytes()[..], &string(text)].concat()
}

pub fn array_value(kind: u32, count: u64, items: &[u8]) -> Vec<u8> {
    [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), items].concat()
}

pub fn f32_bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

impl File {
    pub fn new() -> File {
        File { version: 3, keys: Vec::new(), tensors: Vec::new() }
    }

    pub fn key(mut self, key: &str, value: Vec<u8>) -> File {
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    pub fn without(mut self, name: &str) -> File {
        self.keys.retain(|(key, _)| key != name);
        self.tensors.retain(|(tensor, ..)| tensor != name);
        self
    }

    pub fn tensor(mut self, name: &str, shape: &[u64], number: u32, data: Vec<u8>) -> File {
        self.tensors.push((name.to_owned(), shape.to_vec(), number, data));
        self
    }

    pub fn f32(self, name: &str, shape: &[u64]) -> File {
        let count: u64 = shape.iter().product();
        self.tensor(name, shape, 0, f32_bytes((0..count).map(|i| i as f32)))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&b"GGUF"[..], &self.version.to_le_bytes()].concat();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend([string(key), value.clone()].concat());
        }
        let mut offset = 0;
        for (name, shape, number, data) in &self.tensors {
            bytes.extend(string(name));
            bytes.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|size| bytes.extend(size.to_le_bytes()));
            bytes.extend(number.to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset += data.len().next_multiple_of(ALIGNMENT);
        }
        for (.., data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            bytes.extend(data);
        }
        bytes
    }

    pub fn open(&self) -> formats::Result<Reader<Cursor<Vec<u8>>>> {
        open(self.bytes())
    }

    pub fn config(&self) -> formats::Result<Config> {
        gguf::config(&mut self.open()?)
    }
}

pub fn open(bytes: Vec<u8>) -> formats::Result<Reader<Cursor<Vec<u8>>>> {
    Reader::new(Cursor::new(bytes), Path::new("m/x.gguf"))
}

/// Header numbers, and after them whatever follows.
pub fn header(version: u32, tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    [&b"GGUF"[..], &version.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes(), rest].concat()
}

/// A whole model: 8 wide, 2 query heads and 1 key head of 4, one layer, 3 tokens.
pub fn model(architecture: &str) -> File {
    let mut file = File::new().key("general.architecture", string_value(architecture));
    for (key, value) in [
        ("embedding_length", 8),
        ("block_count", 1),
        ("feed_forward_length", 12),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("context_length", 64),
    ] {
        file = file.key(&format!("{architecture}.{key}"), u32_value(value));
    }
    file.key(&format!("{architecture}.attention.layer_norm_rms_epsilon"), f32_value(1e-5))
        .key("tokenizer.ggml.tokens", array_value(8, 3, &[string("a"), string("b"), string("ß")].concat()))
        .key("tokenizer.ggml.eos_token_id", u32_value(2))
        .f32("token_embd.weight", &[3, 8])
        .f32("blk.0.attn_norm.weight", &[8])
        .f32("blk.0.attn_q.weight", &[8, 8])
        .f32("blk.0.attn_k.weight", &[4, 8])
        .f32("blk.0.attn_v.weight", &[4, 8])
        .f32("blk.0.attn_output.weight", &[8, 8])
        .f32("blk.0.ffn_norm.weight", &[8])
        .f32("blk.0.ffn_gate.weight", &[12, 8])
        .f32("blk.0.ffn_up.weight", &[12, 8])
        .f32("blk.0.ffn_down.weight", &[8, 12])
        .f32("output_norm.weight", &[8])
}
