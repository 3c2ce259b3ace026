//! Valid files of every format, made in code where possible.

#[allow(dead_code)] // The corpus tests' own samples; not all of them are needed here.
#[path = "../../../../crates/corpus/tests/it/samples.rs"]
mod samples;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Result, anyhow};
use compute::rng::Rng;
use formats::hf;
use formats::safetensors::{Dtype, TensorSpec, pytorch_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use runs::report::NoReport;
use serde_json::json;
use store::fs::RealFs;
use store::manifest::Manifest;
use tar::EntryType::Regular;
use tokenizer::{Kind, TokenizerOptions};
use train::Checkpoints;
use train::checkpoint::{EpochLoss, Rollbacks, SpikeWindow, TrainerState};

use super::super::campaign::Campaign;
use super::super::project::text;
use super::stand_in::StandIn;
use crate::python;

/// Tokens of the tokenizers made here: as many as a few words support.
const VOCABULARY: usize = 272;

/// Packs content into a file.
type Pack = fn(&[u8]) -> Vec<u8>;

/// A valid file.
pub struct Seed {
    pub bytes: Vec<u8>,
    /// Its unpacked content, and how to pack it.
    pub packed: Option<(Vec<u8>, Pack)>,
}

fn plain(bytes: impl Into<Vec<u8>>) -> Seed {
    Seed { bytes: bytes.into(), packed: None }
}

fn packed(inner: impl Into<Vec<u8>>, pack: Pack) -> Seed {
    let inner = inner.into();
    Seed { bytes: pack(&inner), packed: Some((inner, pack)) }
}

pub fn safetensors() -> Result<Vec<Seed>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.safetensors");
    let specs = vec![
        TensorSpec::f32("b", &[2, 3]),
        TensorSpec { name: "narrow".into(), dtype: Dtype::BF16, shape: vec![3] },
        TensorSpec { name: "half".into(), dtype: Dtype::F16, shape: vec![1, 5] },
        TensorSpec::f32("empty", &[0, 7]),
    ];
    let values = |spec: &TensorSpec| Ok(Cow::Owned(vec![0.5; spec.shape.iter().product()]));
    formats::safetensors::write(&RealFs, &path, specs, &pytorch_metadata(), values)?;
    Ok(vec![plain(std::fs::read(path)?)])
}

/// A model of one layer, eight wide.
pub fn gguf() -> Vec<Seed> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut keys = Vec::new();
    let mut key = |name: &str, kind: u32, value: &[u8]| {
        keys.push([string(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat());
    };
    key("general.architecture", 8, &string("llama"));
    for (name, value) in [
        ("embedding_length", 8u32),
        ("block_count", 1),
        ("feed_forward_length", 12),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("context_length", 64),
    ] {
        key(&format!("llama.{name}"), 4, &value.to_le_bytes());
    }
    key("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes());
    let tokens =
        [&8u32.to_le_bytes()[..], &3u64.to_le_bytes(), &string("a"), &string("b"), &string("ß")].concat();
    key("tokenizer.ggml.tokens", 9, &tokens);
    // Sizes innermost first; f32 is type 0, blocks of 32 in eight bits are type 8 and take 34 bytes.
    let tensors: [(&str, &[u64], u32, usize); 5] = [
        ("token_embd.weight", &[8, 3], 0, 96),
        ("blk.0.attn_norm.weight", &[8], 0, 32),
        ("blk.0.attn_q.weight", &[8, 8], 0, 256),
        ("blk.0.ffn_up.weight", &[32, 2], 8, 68),
        ("output_norm.weight", &[8], 0, 32),
    ];
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    bytes.extend(keys.concat());
    let mut offset = 0;
    for (name, sizes, kind, length) in tensors {
        bytes.extend(string(name));
        bytes.extend((sizes.len() as u32).to_le_bytes());
        sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        offset += length.next_multiple_of(32);
    }
    bytes.resize(bytes.len().next_multiple_of(32) + offset, 0);
    vec![plain(bytes)]
}

pub fn config() -> Result<Vec<Seed>> {
    let whole = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 280, "hidden_size": 64,
        "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "torch_dtype": "float32", "hidden_act": "silu", "bos_token_id": 1,
        "eos_token_id": [2, 3], "rope_scaling": { "rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64 },
    });
    let bytes = serde_json::to_vec_pretty(&whole)?;
    hf::Config::parse(&bytes, Path::new("config.json"))?;
    let newer = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 280, "hidden_size": 64,
        "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "dtype": "bfloat16",
        "rope_parameters": { "rope_type": "default", "rope_theta": 10000.0 }, "hidden_act": "silu",
    });
    Ok(vec![plain(bytes), plain(serde_json::to_vec(&newer)?)])
}

pub fn generation_config() -> Vec<Seed> {
    let whole = json!({
        "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0, "do_sample": true, "temperature": 0.8,
        "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1, "max_new_tokens": 64,
    });
    vec![plain(whole.to_string())]
}

/// Those of `examples/`.
pub fn recipes() -> Result<Vec<Seed>> {
    let mut seeds = vec![plain(&b"name = \"x\"\n[train]\nsteps = 10\nlearning_rate = 1e-3\n"[..])];
    if let Ok(entries) = std::fs::read_dir(python::repository().join("examples")) {
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
            seeds.push(plain(std::fs::read(path)?));
        }
    }
    Ok(seeds)
}

pub fn metrics() -> Vec<Seed> {
    let step = |step: u64| {
        json!({ "event": "step", "step": step, "total_steps": 24, "epoch": 0.1, "loss": 5.5,
            "learning_rate": 0.001, "gradient_norm": 1.9, "tokens_per_s": 36590.8, "tokens_seen": 128 * step,
            "elapsed_s": 0.1, "eta_s": 0.2, "rss_bytes": 20_074_496 })
        .to_string()
            + "\n"
    };
    let mut lines: String = (1..6).map(step).collect();
    for line in [
        json!({ "event": "validation", "step": 5, "loss": 4.1, "perplexity": 60.0, "seconds": 0.1,
            "best": true }),
        json!({ "event": "sample", "step": 5, "prompt": "the ", "text": "river été" }),
        json!({ "event": "epoch_finished", "epoch": 1, "step": 5, "train_loss": 4.0, "validation_loss": 4.1,
            "tokens": 640, "seconds": 0.5 }),
    ] {
        lines += &format!("{line}\n");
    }
    vec![plain(lines)]
}

pub fn manifest() -> Vec<Seed> {
    let inputs = BTreeMap::from([("a.txt".to_owned(), "0".repeat(64))]);
    let manifest =
        Manifest::new("documents", json!({ "stage_version": 3, "data": { "paths": ["in"] } }), inputs);
    let folder = tempfile::tempdir();
    let written = folder.ok().and_then(|folder| {
        manifest.write(&RealFs, folder.path()).ok()?;
        std::fs::read(folder.path().join(store::manifest::FILE_NAME)).ok()
    });
    vec![plain(written.unwrap_or_default())]
}

/// Pages made here, and some of the labeled ones.
pub fn html() -> Result<Vec<Seed>> {
    let page = "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>A page</title>\
                <meta property=\"article:published_time\" content=\"2020-02-30T25:61:00Z\"></head><body>\
                <nav><a href=/>home</a></nav><article><h1>Of rivers</h1>\
                <p>The river runs over stones &amp; under &#x1F600; bridges, where children count boats.</p>\
                <ul><li>one<li>two</ul><table><tr><td>a<td>b</table><pre>x  y</pre>\
                <script>let a = '</p>'</script><!-- c --></article>\
                <footer>&copy; 2020</footer></body></html>";
    let mut seeds = vec![plain(page)];
    for number in ["0551", "0180", "0488"] {
        let path = python::repository().join(format!("crates/corpus/tests/data/pages/{number}.html.gz"));
        let mut page = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(path)?).read_to_end(&mut page)?;
        seeds.push(plain(page));
    }
    Ok(seeds)
}

/// Learns a small vocabulary into a folder.
pub fn make_tokenizer(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let text = text(8000, &mut Rng::from_parts(1, "tokenizer", &[]));
    let options = TokenizerOptions { kind: Kind::Bpe, vocab_size: VOCABULARY, ..TokenizerOptions::default() };
    Ok(tokenizer::train([text], &options, &tokenizer::Normalizer::text(), &mut NoReport)?.save(
        &RealFs,
        folder,
        Some(128),
    )?)
}

/// A file of such a folder.
pub fn tokenizer(campaign: &Campaign, file: &str) -> Result<Vec<Seed>> {
    let folder = campaign.folder("seed-tokenizer")?;
    make_tokenizer(&folder)?;
    let mut seeds = vec![plain(std::fs::read(folder.join(file))?)];
    if file == "tokenizer.json" {
        let text = text(8000, &mut Rng::from_parts(1, "tokenizer", &[]));
        for kind in [Kind::Unigram, Kind::Char, Kind::Byte] {
            let options = TokenizerOptions { kind, vocab_size: VOCABULARY, ..TokenizerOptions::default() };
            tokenizer::train([&text], &options, &tokenizer::Normalizer::text(), &mut NoReport)?
                .save(&RealFs, &folder, None)?;
            seeds.push(plain(std::fs::read(folder.join(file))?));
        }
    }
    Ok(seeds)
}

/// Saves a checkpoint of step 5 into a folder of checkpoints.
pub fn make_checkpoint(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let state = TrainerState {
        format: TrainerState::FORMAT,
        step: 5,
        updates: 5,
        total_steps: 10,
        duties_due: false,
        cursor: tokens::LoaderCursor::default(),
        stream: None,
        left: BTreeMap::default(),
        tokens_seen: 640,
        epoch: EpochLoss::default(),
        history: Vec::new(),
        train_loss: Some(4.5),
        validation_loss: None,
        best: None,
        validations_since_best: 0,
        stopped_early: false,
        decaying_after: None,
        non_finite_in_a_row: 0,
        non_finite_steps: 0,
        anchors: vec![0, 5],
        spikes: SpikeWindow::default(),
        rollbacks: Rollbacks::default(),
        options: train::TrainOptions::default(),
        model: json!({ "hidden_size": 3 }),
        data_hash: "d".into(),
        tokenizer_hash: "t".into(),
    };
    Checkpoints::new(&RealFs, folder).save(&state, &mut StandIn)?;
    Ok(())
}

/// A file of it.
pub fn checkpoint(campaign: &Campaign, file: &str) -> Result<Vec<Seed>> {
    let folder = campaign.folder("seed-checkpoints")?;
    make_checkpoint(&folder)?;
    Ok(vec![plain(std::fs::read(folder.join("step-00000005").join(file))?)])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Into memory, which takes all.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap_or_default()
}

fn zip_of_text(bytes: &[u8]) -> Vec<u8> {
    samples::zip(&[("a/b.txt", bytes), ("c.jsonl", b"{\"text\": \"in an archive\"}\n")])
}

fn tar_of_text(bytes: &[u8]) -> Vec<u8> {
    samples::tar(&[("a/b.txt", Regular, bytes), ("c.jsonl", Regular, b"{\"text\": \"in an archive\"}\n")])
}

fn docx_of(xml: &[u8]) -> Vec<u8> {
    samples::zip(&[("[Content_Types].xml", b"<Types/>"), ("word/document.xml", xml)])
}

fn pdf_of(page: &[u8]) -> Vec<u8> {
    samples::pdf(&[&String::from_utf8_lossy(page)])
}

fn pdf_with_packed_form(form: &[u8]) -> Vec<u8> {
    samples::pdf_with_form("/X Do q Q", &samples::flate(form))
}

fn warc_of(page: &[u8]) -> Vec<u8> {
    samples::warc(&String::from_utf8_lossy(page)).repeat(3)
}

fn packed_warc(page: &[u8]) -> Vec<u8> {
    gzip(&samples::warc(&String::from_utf8_lossy(page))).repeat(3)
}

/// Files of a corpus, by the end of their names.
pub fn corpus() -> Result<Vec<(&'static str, Vec<Seed>)>> {
    let prose = text(3000, &mut Rng::from_parts(1, "prose", &[])) + "Été, naïve “quotes” \u{1F600} ÃƒÂ©tÃ©\n";
    let lines: String = (0..40)
        .map(|number| {
            json!({ "text": format!("line {number} of \
                                     été"), "language": "en", "url": "https://x.org" })
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let array = format!("[{}]", lines.trim_end().replace('\n', ",\n"));
    let mut csv = "id,text,language\n".to_owned();
    (0..40).for_each(|number| {
        csv += &format!("{number},\"a \"\"quoted\"\" text, {number}\nof two lines\",en\n")
    });
    let tsv = csv.replace(',', "\t");
    let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><!DOCTYPE a [<!ENTITY e \"x\">]><a b=\"c\">\
               <p>one &amp; &#233;</p>\
               <![CDATA[two <b>]]><!-- c --><?pi x?><p>three</p></a>";
    let word = "<?xml version=\"1.0\"?><w:document xmlns:w=\"w\"><w:body>\
        <w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t></w:r></w:p>\
        <w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>";
    let page = samples::pdf_page(&[
        "The river runs over stones",
        "and under a bridge \\(where\\)",
        "[(kern)-200(ed)]",
    ]);
    let texts: Vec<String> = (0..60).map(|number| format!("text {} of a table", number * number)).collect();
    let rows: Vec<_> = texts.iter().map(|text| (Some(text.as_str()), Some("en"))).collect();
    let by = |compression, encoding: Option<Encoding>| {
        let properties = WriterProperties::builder().set_compression(compression);
        let properties = match encoding {
            Some(encoding) => properties.set_dictionary_enabled(false).set_encoding(encoding),
            None => properties.set_data_page_row_count_limit(20),
        };
        plain(samples::parquet_by(properties.build(), &rows, 25))
    };
    let level = ZstdLevel::try_new(3).map_err(|error| anyhow!("{error}"))?;
    let archived =
        "<html><p>A page of an archive that is whole, with words enough to be kept by a reader.</html>";
    let mut pages = html()?;
    let labeled = pages.swap_remove(1).bytes;
    let warcs = vec![packed(archived, warc_of), packed(labeled.clone(), warc_of)];
    let packed_warcs = vec![packed(archived, packed_warc), packed(labeled, packed_warc)];
    Ok(vec![
        ("txt", vec![plain(prose.as_str()), plain(text(200, &mut Rng::from_parts(2, "prose", &[])))]),
        ("jsonl", vec![plain(lines.as_str())]),
        ("json", vec![plain(lines.as_str()), plain(array.as_str())]),
        ("csv", vec![plain(csv.as_str())]),
        ("tsv", vec![plain(tsv.as_str())]),
        ("html", pages),
        ("xml", vec![plain(xml)]),
        ("docx", vec![packed(word, docx_of)]),
        (
            "pdf",
            vec![
                packed(page.as_str(), pdf_of),
                packed("q 1 0 0 1 5 5 cm BT (form) Tj ET Q", pdf_with_packed_form),
            ],
        ),
        (
            "parquet",
            vec![
                by(Compression::SNAPPY, None),
                by(Compression::ZSTD(level), None),
                by(Compression::LZ4_RAW, None),
                by(Compression::UNCOMPRESSED, Some(Encoding::DELTA_BYTE_ARRAY)),
                by(Compression::UNCOMPRESSED, Some(Encoding::DELTA_LENGTH_BYTE_ARRAY)),
            ],
        ),
        ("warc", warcs),
        ("warc.gz", packed_warcs),
        ("zip", vec![packed(prose.as_str(), zip_of_text)]),
        ("tar", vec![packed(prose.as_str(), tar_of_text)]),
        ("tar.gz", vec![packed(tar_of_text(prose.as_bytes()), gzip)]),
        ("txt.gz", vec![packed(prose.as_str(), gzip)]),
        ("jsonl.zst", vec![packed(lines.as_str(), zst)]),
        ("csv.bz2", vec![packed(csv.as_str(), samples::bzip2)]),
        ("txt.xz", vec![plain(samples::XZ)]),
    ])
}
