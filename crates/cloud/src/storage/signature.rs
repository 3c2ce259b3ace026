//! AWS Signature Version 4, in the `Authorization` header.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>; the tests are that page's
//! examples. Written here, since curl's own (`--aws-sigv4`) differs by version: 7.88 signs queries wrongly
//! that are not sorted or have no `=`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::credentials::Keys;
use crate::digest::hex;

/// SHA-256 of an empty body, hex.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The signed parts of a request.
pub struct Signed<'a> {
    pub method: &'a str,
    /// Path, percent-encoded, with a leading slash.
    pub path: &'a str,
    /// Percent-encoded names and values, sorted.
    pub query: &'a [(String, String)],
    /// Names in lower case, sorted; `host` and `x-amz-date` must be among them.
    pub headers: &'a [(String, String)],
    /// SHA-256 of the body, hex.
    pub body_sha256: &'a str,
    /// `20130524T000000Z`, as in the header `x-amz-date`.
    pub time: &'a str,
    pub region: &'a str,
}

impl Signed<'_> {
    /// The value of the header `Authorization`.
    pub fn authorization(&self, keys: &Keys) -> String {
        let day = self.time.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let request = hex(Sha256::digest(self.canonical_request()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{request}", self.time);
        let mut key = hmac(format!("AWS4{}", keys.secret_access_key).as_bytes(), day);
        for part in [self.region, "s3", "aws4_request"] {
            key = hmac(&key, part);
        }
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={},Signature={}",
            keys.access_key_id,
            self.header_names(),
            hex(hmac(&key, &to_sign))
        )
    }

    fn canonical_request(&self) -> String {
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            self.method,
            self.path,
            query.join("&"),
            self.header_names(),
            self.body_sha256
        )
    }

    fn header_names(&self) -> String {
        self.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";")
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("invariant: HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The four examples of the page above.
    #[test]
    fn published_examples() {
        let keys = Keys {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let check =
            |method: &str, path: &str, query: &[(&str, &str)], headers: &[(&str, &str)], wanted: &str| {
                let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
                    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
                };
                let body = headers.iter().find(|(name, _)| *name == "x-amz-content-sha256").unwrap().1;
                let (query, headers) = (own(query), own(headers));
                let signed = Signed {
                    method,
                    path,
                    query: &query,
                    headers: &headers,
                    body_sha256: body,
                    time: "20130524T000000Z",
                    region: "us-east-1",
                };
                let authorization = signed.authorization(&keys);
                assert_eq!(authorization.rsplit_once("Signature=").unwrap().1, wanted, "{authorization}");
                let scope =
                    "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=";
                assert!(authorization.contains(scope), "{authorization}");
            };
        const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");
        const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");
        const EMPTY: (&str, &str) = ("x-amz-content-sha256", EMPTY_SHA256);
        check(
            "GET",
            "/test.txt",
            &[],
            &[HOST, ("range", "bytes=0-9"), EMPTY, DATE],
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
        let body = hex(Sha256::digest("Welcome to Amazon S3."));
        check(
            "PUT",
            "/test%24file.text",
            &[],
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                HOST,
                ("x-amz-content-sha256", &body),
                DATE,
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        );
        check(
            "GET",
            "/",
            &[("lifecycle", "")],
            &[HOST, EMPTY, DATE],
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        );
        check(
            "GET",
            "/",
            &[("max-keys", "2"), ("prefix", "J")],
            &[HOST, EMPTY, DATE],
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
    }
}
