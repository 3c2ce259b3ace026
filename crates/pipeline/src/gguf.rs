//! Exports a model folder or an adapter as a GGUF file, for llama.cpp and programs built on it.

use std::path::{Path, PathBuf};

use formats::gguf::{Array, Reader, TensorType, Value};
use model::gguf_file::{self, Keys, Written};
use model::stored::is_gguf;
use model::{Stored, adapter_folder};
use runs::report::{Phase, Reporter};
use store::Foreign;
use store::fs::{FileKind, Fs, RealFs};
use tokenizer::chat::ChatTemplate;
use tokenizer::{GgufExport, GgufTokenizer};

use crate::base_of_adapter::base_of_adapter;
use crate::generate::verify;
use crate::open_model::OpenModel;
use crate::{Error, Result};

/// The key by which this program knows its own files.
const OWN_KEY: &str = "text2llm.version";

/// What was exported.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Exported {
    /// The model's or the adapter's folder.
    pub source: PathBuf,
    /// Of an adapter: its base.
    pub base: Option<PathBuf>,
    /// The file.
    pub out: PathBuf,
    /// llama.cpp's name of the architecture.
    pub architecture: &'static str,
    /// The type of most matrices.
    pub dtype: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Length of the file.
    pub bytes: u64,
    /// What differs in llama.cpp, or must be known to use the file.
    pub notes: Vec<String>,
}

/// Exports the model or the adapter in a folder. `base`: the model that an adapter belongs to, where it is
/// not the one that it names. `dtype`: the type of matrices, by default that of the folder's weights. `out`:
/// by default beside the folder, named after it and the type.
///
/// # Errors
/// A folder that is neither, or damaged; a model or a tokenizer that llama.cpp does not run as this program
/// does, by key; a file of others at `out`; I/O errors.
pub fn export(
    source: &Path,
    base: Option<&Path>,
    dtype: Option<TensorType>,
    out: Option<&Path>,
    reporter: &mut dyn Reporter,
) -> Result<Exported> {
    if is_gguf(source) {
        let message = format!("`{}` is a GGUF file already: export the model's folder", source.display());
        return Err(Error::Argument { message });
    }
    verify(source)?;
    let is_adapter = adapter_folder::is_adapter(&RealFs, source);
    if let (Some(base), false) = (base, is_adapter) {
        let message = format!(
            "--base {} is for adapters, and `{}` is not one: leave it out",
            base.display(),
            source.display()
        );
        return Err(Error::Argument { message });
    }
    let mut open = match (is_adapter, base) {
        (false, _) => OpenModel::open(source)?,
        // On purpose: the same model as a GGUF file, for one.
        (true, Some(base)) => OpenModel::open(base)?,
        (true, None) => base_of_adapter(source)?
            .ok_or_else(|| Error::Argument { message: format!("`{}` holds no adapter", source.display()) })?,
    };
    let own_type = if is_adapter { TensorType::F32 } else { type_of(open.stored.hf().dtype) };
    let dtype = dtype.unwrap_or(own_type);
    let dtype_name = dtype.to_string().to_lowercase();
    let name = name_of(source);
    let out = match out {
        Some(out) => out.to_owned(),
        None => {
            let kind = if is_adapter { "-lora" } else { "" };
            source.with_file_name(format!("{name}{kind}-{dtype_name}.gguf"))
        }
    };
    check_out(&out)?;
    if std::fs::canonicalize(&out).is_ok_and(|out| std::fs::canonicalize(&open.path).ok() == Some(out)) {
        let message = format!("`{}` is the base itself: name another file with --out", out.display());
        return Err(Error::Argument { message });
    }
    // What is in the way stays until the new file was read back.
    let new = out.with_extension("new.gguf");
    let (written, notes) = match is_adapter {
        true => adapter(&open, source, dtype, &name, &new)?,
        false => whole(&mut open, dtype, &name, &new, reporter)?,
    };
    let mut exported = Exported {
        source: source.to_owned(),
        base: is_adapter.then(|| open.path.clone()),
        out,
        architecture: written.architecture,
        dtype: dtype_name,
        tensors: written.tensors,
        bytes: written.bytes,
        notes,
    };
    if let [first, ..] = &written.not_in_blocks[..] {
        exported.notes.push(format!(
            "{} matrices are f16, since their rows are not whole blocks of 32 values: {first}{}",
            written.not_in_blocks.len(),
            if written.not_in_blocks.len() > 1 { ", …" } else { "" }
        ));
    }
    let read = read_back(&exported, &new, (!is_adapter).then_some(&mut open.stored), dtype);
    if let Err(error) = read {
        RealFs.remove_file(&new).map_err(store::Error::io("remove", &new))?;
        return Err(error);
    }
    RealFs.rename(&new, &exported.out).map_err(store::Error::io("rename", &new))?;
    Ok(exported)
}

/// Writes an adapter.
fn adapter(
    open: &OpenModel,
    source: &Path,
    dtype: TensorType,
    name: &str,
    out: &Path,
) -> Result<(Written, Vec<String>)> {
    let general = general("adapter", name);
    let written = gguf_file::write_adapter(&RealFs, out, &open.stored, source, dtype, general)?;
    let template = |template: Option<ChatTemplate>| template.map(|found| found.source(false).to_owned());
    let own = template(ChatTemplate::read(&RealFs, source)?);
    let mut notes = Vec::new();
    if own.is_some() && own != template(open.chat_template()?) {
        notes.push(format!(
            "the adapter was trained with another chat template than its base's, and a GGUF adapter has none: \
             pass --chat-template-file {}",
            source.join(tokenizer::chat::TEMPLATE_FILE).display()
        ));
    }
    Ok((written, notes))
}

/// Writes a model.
fn whole(
    open: &mut OpenModel,
    dtype: TensorType,
    name: &str,
    out: &Path,
    reporter: &mut dyn Reporter,
) -> Result<(Written, Vec<String>)> {
    let template = open.chat_template()?;
    let [default, for_tools] =
        [false, true].map(|tools| template.as_ref().map(|template| template.portable_source(tools)));
    let vocab_size = open.stored.config().vocab_size;
    let GgufExport { metadata, mut notes, strips_like_phi3 } =
        open.tokenizer.to_gguf(vocab_size, &open.stop_ids, default.clone())?;
    let name = name_for_llama_cpp(name, strips_like_phi3);
    let mut keys = Keys { general: general("model", &name), tokenizer: tokenizer_keys(metadata) };
    if let Some(source) = for_tools.filter(|source| default.as_ref() != Some(source)) {
        keys.tokenizer.push(("tokenizer.chat_template.tool_use".to_owned(), Value::String(source)));
    }
    let config = open.stored.config();
    if let Some(window) = config.sliding_window.filter(|&window| window < config.max_position_embeddings) {
        notes.push(format!(
            "llama.cpp has no sliding window for this architecture: the file's context is that of the window, \
             {window} tokens instead of {}",
            config.max_position_embeddings
        ));
    }
    let mut progress = |done, total| reporter.progress(Phase::Export, done, total, "bytes");
    let written = gguf_file::write(&RealFs, out, &mut open.stored, dtype, keys, &mut progress)?;
    Ok((written, notes))
}

/// Opens the new file again as any program would, and compares each parameter of a model with its source.
fn read_back(exported: &Exported, new: &Path, source: Option<&mut Stored>, dtype: TensorType) -> Result<()> {
    let refuse = |message: String| Err(Error::Export { folder: exported.source.clone(), message });
    let tensors = Reader::open(&RealFs, new).map_err(model::Error::from)?.tensors().len();
    if tensors != exported.tensors {
        return refuse(format!("{tensors} tensors instead of {}", exported.tensors));
    }
    // Files of Phi-3's architecture are not read here.
    let Some(source) = source.filter(|_| exported.architecture != "phi3") else { return Ok(()) };
    let mut file = Stored::open(&RealFs, new)?;
    for (name, shape) in source.parameters() {
        let (expected, found) = (source.read(&name, &shape)?, file.read(&name, &shape)?);
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let tolerance = if shape.len() > 1 { rounding(dtype) * largest } else { 0.0 };
        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > tolerance || a.is_nan() != b.is_nan();
        if let Some(at) = expected.iter().zip(&found).position(differs) {
            return refuse(format!("value {at} of {name} is {} instead of {}", found[at], expected[at]));
        }
    }
    Ok(())
}

/// The most by which a type changes a value, as a share of the tensor's largest.
fn rounding(dtype: TensorType) -> f32 {
    match dtype {
        TensorType::F32 => 0.0,
        TensorType::F16 => 1e-3,
        TensorType::BF16 => 4e-3,
        TensorType::Blocks(format) if format.name() == "Q8_0" => 5e-3,
        // The end of the range that the block's largest value is not at is cut.
        _ => 0.13,
    }
}

/// A file in the way must be one that this program wrote.
fn check_out(out: &Path) -> Result<()> {
    let is_own = || {
        let reader = Reader::open(&RealFs, out).ok()?;
        reader.metadata().get(OWN_KEY).map(drop)
    };
    match RealFs.kind(out) {
        None => Ok(()),
        Some(FileKind::File) if is_own().is_some() => Ok(()),
        Some(_) => Err(store::Error::NotOurs { path: out.to_owned(), found: Foreign::NotWritten }.into()),
    }
}

fn type_of(dtype: formats::safetensors::Dtype) -> TensorType {
    match dtype {
        formats::safetensors::Dtype::F16 => TensorType::F16,
        formats::safetensors::Dtype::BF16 => TensorType::BF16,
        _ => TensorType::F32,
    }
}

/// The name of a folder, or of the project that it is the `model/` of.
fn name_of(source: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let own = name(source).filter(|name| name != "model");
    own.or_else(|| name(source.parent()?)).unwrap_or_else(|| "model".to_owned())
}

/// A model's name by which llama.cpp runs its tokenizer as it is: where it contains `phi-3` or `phi3`, the
/// tokenizer must be that of Phi-3.
fn name_for_llama_cpp(name: &str, strips_like_phi3: bool) -> String {
    let lower = name.to_lowercase();
    match (lower.contains("phi-3") || lower.contains("phi3"), strips_like_phi3) {
        (false, true) => format!("Phi-3 {name}"),
        (true, false) => lower.replace("phi-3", "phi 3").replace("phi3", "phi 3"),
        _ => name.to_owned(),
    }
}

/// What a file is.
fn general(kind: &str, name: &str) -> Vec<(String, Value)> {
    let text = |key: &str, text: &str| (key.to_owned(), Value::String(text.to_owned()));
    vec![text("general.type", kind), text("general.name", name), text(OWN_KEY, env!("CARGO_PKG_VERSION"))]
}

/// The keys of a tokenizer; the inverse of what reading does (`open_model`).
fn tokenizer_keys(tokenizer: GgufTokenizer) -> Vec<(String, Value)> {
    let GgufTokenizer {
        architecture: _,
        model,
        pre,
        tokens,
        scores,
        token_types,
        merges,
        bos,
        eos,
        unknown,
        padding,
        eot,
        add_bos,
        add_eos,
        add_space_prefix,
        chat_template,
    } = tokenizer;
    let is_byte_level = model == "gpt2";
    let mut keys = vec![("ggml.model", Value::String(model))];
    keys.extend(pre.map(|pre| ("ggml.pre", Value::String(pre))));
    keys.push(("ggml.tokens", Value::Array(Array::String(tokens))));
    if !scores.is_empty() {
        keys.push(("ggml.scores", Value::Array(Array::F32(scores))));
    }
    keys.push(("ggml.token_type", Value::Array(Array::I32(token_types))));
    if is_byte_level {
        keys.push(("ggml.merges", Value::Array(Array::String(merges))));
    }
    let ids = [
        ("ggml.bos_token_id", bos),
        ("ggml.eos_token_id", eos),
        ("ggml.eot_token_id", eot),
        ("ggml.unknown_token_id", unknown),
        ("ggml.padding_token_id", padding),
    ];
    keys.extend(ids.into_iter().filter_map(|(key, id)| Some((key, Value::U32(id?)))));
    let flags = [
        ("ggml.add_bos_token", add_bos),
        ("ggml.add_eos_token", add_eos),
        ("ggml.add_space_prefix", add_space_prefix),
    ];
    keys.extend(flags.into_iter().filter_map(|(key, flag)| Some((key, Value::Bool(flag?)))));
    keys.extend(chat_template.map(|template| ("chat_template", Value::String(template))));
    keys.into_iter().map(|(key, value)| (format!("tokenizer.{key}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_llama_cpp_how_special_tokens_strip() {
        for (name, strips, wanted) in [
            ("weather", false, "weather"),
            ("weather", true, "Phi-3 weather"),
            ("My-Phi3-mini", true, "My-Phi3-mini"),
            ("My-Phi3-mini", false, "my-phi 3-mini"),
            ("phi-3.5", false, "phi 3.5"),
        ] {
            assert_eq!(name_for_llama_cpp(name, strips), wanted);
        }
    }
}
