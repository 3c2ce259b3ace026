//! The readers of files from outside, and the corpus pipeline as the reader of each of its formats.

use std::io::Cursor;
use std::path::Path;

use anyhow::Result;
use corpus::CorpusOptions;
use formats::{gguf, hf, safetensors};
use runs::report::NoReport;
use store::fs::RealFs;
use store::manifest::{FileRecord, Manifest};
use tokenizer::Tokenizer;
use tokens::Split;
use train::Checkpoints;

use super::super::campaign::Campaign;
use super::seeds::{self, Seed};
use super::stand_in::StandIn;

/// A reader with the files to damage for it.
pub struct Reader {
    pub name: &'static str,
    pub seeds: Vec<Seed>,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// The bytes; the scratch folder is free to be used. Whether they are taken.
    Bytes(fn(&Path, &[u8]) -> bool),
    /// A folder that is made once, with the named file of other bytes. Whether it is taken.
    Folder(fn(&Path, &str, &[u8]) -> bool, &'static str),
    /// A corpus file with this name's end.
    Prepared(&'static str),
}

impl Reader {
    /// How many files go into a call.
    pub fn batch(&self) -> usize {
        match self.how {
            How::Bytes(_) => 32,
            How::Folder(..) | How::Prepared(_) => 12,
        }
    }

    /// Whether a call reads a batch, as preparing a corpus does, and not each file by itself.
    pub fn reads_together(&self) -> bool {
        matches!(self.how, How::Prepared(_))
    }

    /// The end of a damaged file's name.
    pub fn end(&self) -> &'static str {
        match self.how {
            How::Bytes(_) => "bin",
            How::Folder(_, file) => file,
            How::Prepared(end) => end,
        }
    }

    /// Reads them, and says how many were taken, of a corpus how many documents; an error where others are
    /// drawn into what is wrong with them.
    pub fn read(&self, folder: &Path, files: &[Vec<u8>]) -> Result<u64, String> {
        let taken = |read: &dyn Fn(&[u8]) -> bool| files.iter().filter(|file| read(file)).count() as u64;
        Ok(match self.how {
            How::Bytes(read) => taken(&|file| read(folder, file)),
            How::Folder(read, name) => taken(&|file| read(folder, name, file)),
            How::Prepared(end) => return prepare(folder, end, files),
        })
    }
}

/// All of them.
pub fn all(campaign: &Campaign) -> Result<Vec<Reader>> {
    let mut readers = vec![
        of_bytes("safetensors", read_safetensors, seeds::safetensors()?),
        of_bytes("GGUF", read_gguf, seeds::gguf()),
        of_bytes("config.json", read_config, seeds::config()?),
        of_bytes("generation_config.json", read_generation_config, seeds::generation_config()),
        of_bytes("recipe", read_recipe, seeds::recipes()?),
        of_bytes("metrics.jsonl", read_metrics, seeds::metrics()),
        of_bytes("manifest.json", read_manifest, seeds::manifest()),
        of_bytes("page", read_page, seeds::html()?),
    ];
    for file in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        let how = How::Folder(read_tokenizer, file);
        readers.push(Reader { name: "tokenizer folder", seeds: seeds::tokenizer(campaign, file)?, how });
    }
    for file in ["weights.safetensors", "moments.safetensors", "trainer.json", "manifest.json"] {
        let how = How::Folder(read_checkpoint, file);
        readers.push(Reader { name: "checkpoint folder", seeds: seeds::checkpoint(campaign, file)?, how });
    }
    for (end, seeds) in seeds::corpus()? {
        readers.push(Reader { name: end, seeds, how: How::Prepared(end) });
    }
    Ok(readers)
}

fn of_bytes(name: &'static str, read: fn(&Path, &[u8]) -> bool, seeds: Vec<Seed>) -> Reader {
    Reader { name, seeds, how: How::Bytes(read) }
}

fn read_safetensors(_: &Path, bytes: &[u8]) -> bool {
    let Ok(mut reader) = safetensors::Reader::new(Cursor::new(bytes), Path::new("x.safetensors")) else {
        return false;
    };
    let names: Vec<String> = reader.tensors().iter().map(|entry| entry.name.clone()).collect();
    for name in names {
        // What it says of one that it cannot give is its own tests' affair.
        let _ = reader.read_f32(&name);
    }
    true
}

fn read_gguf(_: &Path, bytes: &[u8]) -> bool {
    let Ok(mut reader) = gguf::Reader::new(Cursor::new(bytes), Path::new("x.gguf")) else { return false };
    let names: Vec<String> = reader.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    for name in names {
        let _ = (reader.read_bytes(&name), reader.read_f32(&name));
    }
    let config = gguf::config(&mut reader);
    if let Ok(config) = &config {
        let _ = reader.read_parameter_f32("model.layers.0.self_attn.q_proj.weight", config);
    }
    config.is_ok()
}

fn read_config(folder: &Path, bytes: &[u8]) -> bool {
    let taken = hf::Config::parse(bytes, Path::new("config.json")).is_ok();
    let written = std::fs::write(folder.join("config.json"), bytes);
    written.is_ok() && model::folder::read_config(&RealFs, folder).is_ok() && taken
}

fn read_generation_config(_: &Path, bytes: &[u8]) -> bool {
    hf::GenerationConfig::parse(bytes, Path::new("generation_config.json")).is_ok()
}

fn read_recipe(_: &Path, bytes: &[u8]) -> bool {
    match recipe::Recipe::load("text2llm.toml", &String::from_utf8_lossy(bytes), &[]) {
        Ok(_) => true,
        // Its words point into the text, which is where such code goes wrong.
        Err(errors) => errors.to_string().is_empty(),
    }
}

fn read_metrics(folder: &Path, bytes: &[u8]) -> bool {
    let path = folder.join(runs::metrics::FILE_NAME);
    if std::fs::write(&path, bytes).is_err() {
        return false;
    }
    let read = runs::metrics::read(&RealFs, &path);
    let mut watch = runs::watch::MetricsWatch::default();
    while watch.refresh(&path).more {}
    let _ = runs::metrics::MetricsLog::open(&RealFs, &path, 3);
    read.is_ok_and(|metrics| metrics.len() > 6)
}

fn read_manifest(_: &Path, bytes: &[u8]) -> bool {
    Manifest::parse(bytes, Path::new("manifest.json")).is_ok()
}

fn read_page(_: &Path, bytes: &[u8]) -> bool {
    let (text, _) = corpus::extract::decode(bytes, None);
    !corpus::extract::extract(&text, corpus::extract::ExtractionMode::default()).text.is_empty()
}

/// The folder `tokenizer` in the bench's folder, with one file of other bytes for a moment.
fn read_tokenizer(folder: &Path, name: &str, bytes: &[u8]) -> bool {
    let folder = folder.join("tokenizer");
    let path = folder.join(name);
    if !folder.exists() && seeds::make_tokenizer(&folder).is_err() {
        return false;
    }
    let Ok(whole) = std::fs::read(&path) else { return false };
    let written = std::fs::write(&path, bytes);
    let opened = Tokenizer::open(&RealFs, &folder).ok().filter(|_| written.is_ok());
    if let Some(tokenizer) = &opened {
        let ids = tokenizer.encode("the river runs <EOS> under 12 bridges, été\u{301} 7777777");
        if let Ok(ids) = ids {
            tokenizer.decode(&ids, false);
        }
    }
    std::fs::write(&path, whole).is_ok() && opened.is_some()
}

/// The folder of a checkpoint likewise; once as it is, and once with a manifest that was made for the damaged
/// file.
fn read_checkpoint(folder: &Path, name: &str, bytes: &[u8]) -> bool {
    let folder = folder.join("checkpoints");
    let place = folder.join("step-00000005");
    if !place.exists() && seeds::make_checkpoint(&folder).is_err() {
        return false;
    }
    let (path, manifest_path) = (place.join(name), place.join(store::manifest::FILE_NAME));
    let (Ok(whole), Ok(whole_manifest)) = (std::fs::read(&path), std::fs::read(&manifest_path)) else {
        return false;
    };
    let load = || {
        let checkpoints = Checkpoints::new(&RealFs, &folder);
        let loaded = checkpoints.load(train::Which::Latest, &mut StandIn, &mut NoReport);
        loaded.is_ok_and(|state| state.is_some())
    };
    let mut taken = std::fs::write(&path, bytes).is_ok() && load();
    if let Ok(mut manifest) = Manifest::read(&RealFs, &place) {
        let record = FileRecord { blake3: store::manifest::hash_bytes(bytes), bytes: bytes.len() as u64 };
        manifest.outputs.insert(name.to_owned(), record);
        taken |= manifest.write(&RealFs, &place).is_ok() && load();
    }
    let back = std::fs::write(&path, whole).and_then(|()| std::fs::write(&manifest_path, whole_manifest));
    back.is_ok() && taken
}

/// Prepares a corpus of the files beside a good text, which must come through; how many documents came with
/// it.
pub fn prepare(folder: &Path, end: &str, files: &[Vec<u8>]) -> Result<u64, String> {
    const GOOD: &str = "a good text that stands beside the damaged ones";
    let project = folder.join("corpus");
    let write = || -> std::io::Result<()> {
        if project.exists() {
            std::fs::remove_dir_all(&project)?;
        }
        std::fs::create_dir_all(project.join("in"))?;
        std::fs::write(project.join("in/zz.txt"), GOOD)?;
        for (number, file) in files.iter().enumerate() {
            std::fs::write(project.join(format!("in/{number:02}.{end}")), file)?;
        }
        Ok(())
    };
    write().map_err(|error| error.to_string())?;
    // In a folder, .json is passed over: it is sidecars there more often than text.
    let paths =
        if end == "json" { vec!["in".to_owned(), "in/*.json".to_owned()] } else { vec!["in".to_owned()] };
    let options =
        CorpusOptions { paths, quarantine_limit: 1.0, validation_fraction: 0.0, ..CorpusOptions::default() };
    let out = project.join("data/documents");
    let summary = corpus::prepare(&RealFs, &options, &project, &out, &mut NoReport)
        .map_err(|error| format!("the whole corpus is refused for it: {error}"))?;
    let mut documents = corpus::documents(&RealFs, &out, Split::Train).map_err(|error| error.to_string())?;
    let is_there = documents.any(|document| document.is_ok_and(|document| document.text == GOOD));
    is_there.then_some(summary.documents() - 1).ok_or_else(|| "the good text beside it is lost".to_owned())
}
