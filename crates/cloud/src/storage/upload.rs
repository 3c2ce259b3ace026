//! Uploads files to object storage: in one request, or in parts if they are large.
//!
//! Each request carries the SHA-256 of what it sends, so that the storage refuses what was changed on the
//! way. An object appears when its last byte is there, as S3 promises, never a part of it. Parts that a
//! killed process leaves behind are invisible and cost room until a rule of the bucket ("abort incomplete
//! multipart uploads") removes them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::bucket::Storage;
use super::passing::passing;
use super::request::Call;
use super::xml;
use crate::digest::hex;
use crate::error::broken;
use crate::{Error, Result};

/// Maximum number of parts in S3.
const MOST_PARTS: u64 = 10_000;

impl Storage {
    /// Small bytes as an object.
    ///
    /// # Errors
    /// No answer after several tries; a refusal; the disk, where they wait to be sent.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let file = waiting(bytes)?;
        let sha256 = hex(Sha256::digest(bytes));
        self.ask(&Call { method: "PUT", body: Some((file.path(), &sha256)), ..Call::get(key) })?;
        Ok(())
    }

    /// A file as an object. `progress` hears how many of its bytes are there.
    ///
    /// # Errors
    /// No answer after several tries; a refusal; a file that changes meanwhile; the disk.
    pub fn put_file(&self, key: &str, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let bytes = std::fs::metadata(path).map_err(store::Error::io("read", path))?.len();
        if bytes > self.part_bytes {
            return self.put_parts(key, path, bytes, progress);
        }
        let mut file = File::open(path).map_err(store::Error::io("read", path))?;
        let sha256 = pass(&mut file, bytes, &mut std::io::sink()).map_err(store::Error::io("read", path))?;
        self.ask(&Call { method: "PUT", body: Some((path, &sha256)), ..Call::get(key) })?;
        progress(bytes);
        Ok(())
    }

    fn put_parts(&self, key: &str, path: &Path, bytes: u64, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let begun = self.ask(&Call { method: "POST", query: &[("uploads", "")], ..Call::get(key) })?;
        let said = String::from_utf8_lossy(&begun.body).into_owned();
        let id = xml::text_of(&said, "InitiateMultipartUploadResult/UploadId")
            .ok_or_else(|| broken(&self.place(key), "unexpected response from the object storage"))?;
        let sent = self.send_parts(key, path, bytes, &id, progress);
        let done = sent.and_then(|parts| self.put_together(key, &id, &parts, bytes));
        if done.is_err() {
            // What cannot be taken back now is taken back by the bucket's rule.
            let _ = self.ask(&Call { method: "DELETE", query: &[("uploadId", &id)], ..Call::get(key) });
        }
        done
    }

    /// The ETags of the parts, in order.
    fn send_parts(
        &self,
        key: &str,
        path: &Path,
        bytes: u64,
        id: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<String>> {
        let part_bytes = self.part_bytes.max(bytes.div_ceil(MOST_PARTS));
        let mut file = File::open(path).map_err(store::Error::io("read", path))?;
        let (mut etags, mut done) = (Vec::new(), 0);
        while done < bytes {
            // Curl sends whole files, and its standard input is taken by what must not stand in its
            // arguments.
            let mut part = waiting(&[])?;
            let length = part_bytes.min(bytes - done);
            let sha256 =
                pass(&mut file, length, part.as_file_mut()).map_err(store::Error::io("read", path))?;
            let number = (etags.len() + 1).to_string();
            let answer = self.ask(&Call {
                method: "PUT",
                query: &[("partNumber", &number), ("uploadId", id)],
                body: Some((part.path(), &sha256)),
                ..Call::get(key)
            })?;
            let etag = answer
                .header("etag")
                .ok_or_else(|| broken(&self.place(key), "the storage returned no ETag for a part"))?;
            etags.push(etag.to_owned());
            done += length;
            progress(done);
        }
        Ok(etags)
    }

    fn put_together(&self, key: &str, id: &str, etags: &[String], bytes: u64) -> Result<()> {
        let parts: String = (1..)
            .zip(etags)
            .map(|(number, etag)| {
                let etag = quick_xml::escape::escape(etag.as_str());
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let (file, sha256) = (waiting(list.as_bytes())?, hex(Sha256::digest(&list)));
        let call = Call {
            method: "POST",
            query: &[("uploadId", id)],
            body: Some((file.path(), &sha256)),
            ..Call::get(key)
        };
        match self.ask(&call) {
            Ok(_) => Ok(()),
            // The answer to an earlier try was lost: then it is there.
            Err(Error::Storage { code, .. })
                if code == "NoSuchUpload"
                    && self.list(key)?.iter().any(|object| object.key == key && object.bytes == bytes) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// A temporary file for an upload.
fn waiting(bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
    let folder = std::env::temp_dir();
    let written = passing(&folder).and_then(|mut file| file.write_all(bytes).map(|()| file));
    Ok(written.map_err(store::Error::io("write the upload to", &folder))?)
}

/// Passes on the next `length` bytes, and says their SHA-256.
fn pass(from: &mut File, length: u64, to: &mut dyn Write) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut from = from.take(length);
    let mut passed = 0;
    loop {
        match from.read(&mut buffer)? {
            0 if passed < length => {
                return Err(std::io::Error::other("the file was truncated during the upload"));
            }
            0 => return Ok(hex(hasher.finalize())),
            read => {
                hasher.update(&buffer[..read]);
                to.write_all(&buffer[..read])?;
                passed += read as u64;
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::passing::PASSING;
    use super::*;

    #[test]
    fn what_a_kill_leaves_is_removed_by_the_next_that_needs_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let left = folder.path().join(format!("{PASSING}{}-aB3xYz", child.id()));
        std::fs::write(&left, "x").unwrap();
        let file = passing(folder.path()).unwrap();
        assert!(!left.exists());
        // As the process that it belongs to would leave it, it would be removed by the next too.
        let name = file.path().file_name().unwrap().to_string_lossy().into_owned();
        let random = name.strip_prefix(&format!("{PASSING}{}-", std::process::id())).unwrap();
        assert!(random.len() == 6 && random.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
    }
}
