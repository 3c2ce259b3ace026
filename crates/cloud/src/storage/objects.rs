//! Lists of objects, and objects out of the storage.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use store::fs::regular;
use store::manifest;

use super::bucket::{Object, Storage};
use super::request::{self, Answer, Call};
use super::xml;
use crate::error::broken;
use crate::receive::size;
use crate::{Error, Result};

/// A list of more is not fetched one by one.
const MOST_OBJECTS: usize = 2_000_000;
/// Pages have a thousand objects, unless something is wrong: this many may have fewer than ten on average.
const MOST_THIN_PAGES: usize = 300;
const FEWEST_OBJECTS: usize = 10;

impl Storage {
    /// All objects whose key begins with `prefix`, in the order of keys.
    ///
    /// # Errors
    /// No response after several attempts; a refusal; an unexpected response.
    pub fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let place = self.place(prefix);
        let broken = || broken(&place, "unexpected response from the object storage");
        let (mut objects, mut token) = (Vec::new(), None::<String>);
        let (mut pages, mut tokens) = (0, HashSet::new());
        loop {
            pages += 1;
            if objects.len() > MOST_OBJECTS || pages > MOST_THIN_PAGES + objects.len() / FEWEST_OBJECTS {
                let message = format!(
                    "the list does not end ({pages} pages of {} objects so far): select fewer objects by a \
                     folder or a pattern, or check AWS_ENDPOINT_URL",
                    objects.len()
                );
                return Err(Error::Reference { entry: place, message });
            }
            let mut query = vec![("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")];
            query.extend(token.as_deref().map(|token| ("continuation-token", token)));
            let answer = self.ask(&Call { query: &query, ..Call::get("") })?;
            let text = String::from_utf8(answer.body).map_err(|_| broken())?;
            let (mut object, mut next, mut is_cut, mut is_fit) = (Object::default(), None, false, true);
            let mut is_list = false;
            let mut visit = |path: &str, words: &str| match path {
                "ListBucketResult/Contents/Key" => match decoded(words) {
                    Some(key) => object.key = key,
                    None => is_fit = false,
                },
                "ListBucketResult/Contents/Size" => match words.parse() {
                    Ok(bytes) => object.bytes = bytes,
                    Err(_) => is_fit = false,
                },
                "ListBucketResult/Contents/ETag" => request::bare(words).clone_into(&mut object.etag),
                "ListBucketResult/Contents" => objects.push(std::mem::take(&mut object)),
                "ListBucketResult/IsTruncated" => is_cut = words == "true",
                "ListBucketResult/NextContinuationToken" => next = Some(words.to_owned()),
                "ListBucketResult" => is_list = true,
                _ => {}
            };
            xml::elements(&text, &mut visit).ok_or_else(broken)?;
            if !is_fit || !is_list {
                return Err(broken());
            }
            match (is_cut, next) {
                (false, _) => break,
                // A page that was there before would come again without end.
                (true, Some(next)) if tokens.insert(manifest::hash_bytes(next.as_bytes())) => {
                    token = Some(next)
                }
                (true, _) => return Err(broken()),
            }
        }
        objects.retain(|object| object.key.starts_with(prefix));
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Downloads a small object; `None` if it does not exist.
    ///
    /// # Errors
    /// No answer after several tries; a refusal.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self.ask(&Call::get(key)) {
            Ok(answer) => Ok(Some(answer.body)),
            Err(Error::Storage { status: 404, code, .. }) if code != "NoSuchBucket" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Downloads an object to a file, under another name until it is complete; a later call continues it.
    /// `progress` gets the number of bytes present.
    ///
    /// # Errors
    /// No answer after several tries; an object that is another one by now; the disk.
    pub fn get_file(&self, object: &Object, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        self.fetch_file(object, path, progress).map(drop)
    }

    /// Like `get_file`, with the last response, if a request was needed.
    pub(super) fn fetch_file(
        &self,
        object: &Object,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<Answer>> {
        let mut answer = None;
        let part = part_file(path, &object.etag);
        // Curl would write through a link.
        regular::clear_the_way(&part).map_err(store::Error::io("write", &part))?;
        let create = |path: &Path| regular::create(path).map_err(store::Error::io("write", path));
        if size(&part) > object.bytes {
            create(&part)?;
        }
        if object.bytes == 0 {
            create(&part)?;
        } else if size(&part) < object.bytes {
            let etag = format!("\"{}\"", object.etag);
            let headers = [("if-match", etag.as_str())];
            let headers = if object.etag.is_empty() { &[][..] } else { &headers };
            let call = Call { headers, ..Call::get(&object.key) };
            answer = Some(self.bring(&call, &object.etag, &part, object.bytes, progress)?);
        }
        let bytes = size(&part);
        if bytes != object.bytes {
            std::fs::remove_file(&part).map_err(store::Error::io("remove", &part))?;
            let message =
                format!("received {bytes} bytes instead of {}: run the same command again", object.bytes);
            return Err(broken(&self.place(&object.key), &message));
        }
        std::fs::rename(&part, path).map_err(store::Error::io("rename", &part))?;
        Ok(answer)
    }

    /// Deletes an object if it exists.
    ///
    /// # Errors
    /// No answer after several tries; a refusal.
    pub fn delete(&self, key: &str) -> Result<()> {
        match self.ask(&Call { method: "DELETE", ..Call::get(key) }) {
            Ok(_) => Ok(()),
            Err(Error::Storage { status: 404, code, .. }) if code != "NoSuchBucket" => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Beside the file, and another one for another content.
pub(super) fn part_file(path: &Path, etag: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let etag: String = etag.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    path.with_file_name(format!("{name}.{etag}.part"))
}

/// A key as lists encode it: `+` is a space, as in forms.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Settings;

    #[test]
    fn buckets_stand_in_names_or_in_paths() {
        let place = |endpoint: Option<&str>, region: &str, bucket: &str| {
            let settings =
                Settings { endpoint: endpoint.map(str::to_owned), region: region.to_owned(), keys: None };
            let storage = Storage::new(settings, bucket);
            format!("{}://{}{}", storage.scheme, storage.host, storage.base_path)
        };
        assert_eq!(place(None, "eu-west-1", "raw"), "https://raw.s3.eu-west-1.amazonaws.com");
        assert_eq!(place(None, "eu-west-1", "a.b"), "https://s3.eu-west-1.amazonaws.com/a.b");
        assert_eq!(place(None, "cn-north-1", "raw"), "https://raw.s3.cn-north-1.amazonaws.com.cn");
        assert_eq!(place(Some("http://127.0.0.1:9000/"), "x", "raw"), "http://127.0.0.1:9000/raw");
        assert_eq!(place(Some("https://minio.lab:443/at"), "x", "raw"), "https://minio.lab/at/raw");
    }

    #[test]
    fn keys_of_lists_are_decoded() {
        assert_eq!(decoded("a+b%2Fc%C3%A9%2B").as_deref(), Some("a b/cé+"));
        for bad in ["%", "%1", "%zz", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
