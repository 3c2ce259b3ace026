//! The `text2llm` binary.
fn main() {}
