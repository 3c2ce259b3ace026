//! The bundled corpus: LibreOffice's help in English and French (MPL-2.0, see
//! assets/sample-corpus/README.md).

/// Its path in a recipe. A file or folder of that name is reached as "./sample".
pub const SAMPLE: &str = "sample";

/// JSON lines, packed with zstd.
pub const BYTES: &[u8] = include_bytes!("../../../assets/sample-corpus/sample.jsonl.zst");
