//! Whose requests, and to which server: AWS's variables, then its files.
//!
//! Keys are read from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`) or
//! from a profile of `~/.aws/credentials` and `~/.aws/config`. What has to be asked of another server first
//! (sign-on, roles, a machine's own) is not: AWS's program turns it into variables.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::{Error, Result};

const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_PROFILE: &str = "default";

/// Keys for signing requests.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Secret; of keys that expire.
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.access_key_id)
    }
}

/// A server and the keys to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of a server that is not Amazon's; buckets are then named in paths.
    pub endpoint: Option<String>,
    /// Which part of the world.
    pub region: String,
    /// `None`: requests are not signed.
    pub keys: Option<Keys>,
}

type Profile = BTreeMap<String, String>;

impl Settings {
    /// Settings from the environment and AWS's files.
    ///
    /// # Errors
    /// A named profile that does not exist while the environment has no keys, or whose keys must be requested
    /// from a server; an incomplete pair of keys.
    pub fn from_environment() -> Result<Settings> {
        Settings::from_variables(&|name| std::env::var(name).ok())
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Settings> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let fail = |entry: &str, message: String| Err(Error::Reference { entry: entry.to_owned(), message });
        let named = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let name = named.as_deref().unwrap_or(DEFAULT_PROFILE);
        let file = |place: &str, default: &str| {
            let home =
                || Some(PathBuf::from(variable("HOME").or_else(|| variable("USERPROFILE"))?).join(default));
            let path = variable(place).map(PathBuf::from).or_else(home)?;
            std::fs::read_to_string(path).ok()
        };
        let config = file("AWS_CONFIG_FILE", ".aws/config").unwrap_or_default();
        let section = if name == DEFAULT_PROFILE { name.to_owned() } else { format!("profile {name}") };
        let config = profile(&config, &section);
        let credentials =
            profile(&file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials").unwrap_or_default(), name);
        let has_keys = variable("AWS_ACCESS_KEY_ID").is_some() && variable("AWS_SECRET_ACCESS_KEY").is_some();
        // Keys that somebody made variables of need no profile, and pods and nodes have no such files.
        if config.is_none() && credentials.is_none() && named.is_some() && !has_keys {
            return fail(
                "AWS_PROFILE",
                format!("there is no profile `{name}` in ~/.aws/credentials or ~/.aws/config"),
            );
        }
        let (config, credentials) = (config.unwrap_or_default(), credentials.unwrap_or_default());
        let of_profile = |key: &str| credentials.get(key).or_else(|| config.get(key)).cloned();

        let from_environment = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
        let from_profile = (of_profile("aws_access_key_id"), of_profile("aws_secret_access_key"));
        let keys = match (from_environment, from_profile) {
            ((Some(access_key_id), Some(secret_access_key)), _) => {
                let session_token = variable("AWS_SESSION_TOKEN");
                Some(Keys { access_key_id, secret_access_key, session_token })
            }
            ((Some(_), None) | (None, Some(_)), _) => {
                return fail(
                    "AWS_ACCESS_KEY_ID",
                    "set both it and AWS_SECRET_ACCESS_KEY, or neither".to_owned(),
                );
            }
            (_, (Some(access_key_id), Some(secret_access_key))) => {
                let session_token = of_profile("aws_session_token");
                Some(Keys { access_key_id, secret_access_key, session_token })
            }
            _ => {
                let asked = ["sso_session", "sso_start_url", "role_arn", "credential_process"];
                if let Some(key) = asked.into_iter().find(|key| of_profile(key).is_some()) {
                    let message = format!(
                        "the profile `{name}` gets its keys from {key}, which is not supported: run \
                         `eval \"$(aws configure export-credentials --format env)\"` first"
                    );
                    return fail("AWS_PROFILE", message);
                }
                None
            }
        };
        let endpoint = variable("AWS_ENDPOINT_URL_S3")
            .or_else(|| variable("AWS_ENDPOINT_URL"))
            .or_else(|| of_profile("endpoint_url"));
        if let Some(endpoint) = &endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            let shown = store::secret::hidden(endpoint);
            return fail("AWS_ENDPOINT_URL", format!("`{shown}` is not a valid URL: expected https://HOST"));
        }
        if endpoint.as_deref().is_some_and(store::secret::is_in_address) {
            let message = "it contains a password: use https://HOST, and set AWS_ACCESS_KEY_ID and \
                           AWS_SECRET_ACCESS_KEY";
            return fail("AWS_ENDPOINT_URL", message.to_owned());
        }
        let region = variable("AWS_REGION")
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .or_else(|| of_profile("region"))
            .unwrap_or_else(|| DEFAULT_REGION.to_owned());
        Ok(Settings { endpoint, region, keys })
    }
}

/// The keys of a section; `None` if there is no such section. Indented lines belong to nested settings and
/// are skipped.
fn profile(text: &str, wanted: &str) -> Option<Profile> {
    let mut found: Option<Profile> = None;
    let mut is_ours = false;
    for line in text.lines().filter(|line| !line.starts_with(['#', ';', ' ', '\t'])) {
        if let Some(name) = line.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_ours = name.split_whitespace().eq(wanted.split_whitespace());
            if is_ours {
                found.get_or_insert_default();
            }
        } else if let (true, Some(profile), Some((key, value))) = (is_ours, &mut found, line.split_once('='))
        {
            let value = value.trim();
            if !value.is_empty() {
                profile.insert(key.trim().to_lowercase(), value.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_variables(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(home.path().join(".aws").join(name), text).unwrap();
        write(
            "credentials",
            "# keys\n[default]\naws_access_key_id = \
             A\naws_secret_access_key=B==\n[lab]\naws_access_key_id=C\n\
             aws_secret_access_key=D\naws_session_token=E\n",
        );
        write(
            "config",
            "[default]\nregion = eu-west-1\ns3 =\n  region = no\n[profile lab]\nendpoint_url = \
             https://minio.lab:9000\n\
             [profile person]\nsso_session = x\n",
        );
        home
    }

    #[test]
    fn variables_come_before_files_and_a_profile_is_chosen_by_name() {
        let home = home();
        let home = ("HOME", home.path().to_str().unwrap());
        let plain = settings(&[home]).unwrap();
        assert_eq!((plain.region.as_str(), plain.endpoint.as_deref()), ("eu-west-1", None));
        let keys = plain.keys.unwrap();
        assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.as_str()), ("A", "B=="));
        let lab = settings(&[home, ("AWS_PROFILE", "lab")]).unwrap();
        assert_eq!(lab.endpoint.as_deref(), Some("https://minio.lab:9000"));
        assert_eq!(
            (lab.region.as_str(), lab.keys.unwrap().session_token.as_deref()),
            ("us-east-1", Some("E"))
        );
        let said = [
            home,
            ("AWS_ACCESS_KEY_ID", "X"),
            ("AWS_SECRET_ACCESS_KEY", "Y"),
            ("AWS_REGION", "ap-south-1"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ];
        let said = settings(&said).unwrap();
        assert_eq!(
            (said.region.as_str(), said.endpoint.as_deref()),
            ("ap-south-1", Some("http://127.0.0.1:1"))
        );
        assert_eq!(said.keys.clone().unwrap().session_token, None, "a token goes with its own keys");
        assert!(!format!("{said:?}").contains('Y'), "{said:?}");
        assert_eq!(settings(&[]).unwrap().keys, None);
        let keys = [("AWS_ACCESS_KEY_ID", "X"), ("AWS_SECRET_ACCESS_KEY", "Y"), ("AWS_PROFILE", "elsewhere")];
        assert_eq!(settings(&keys).unwrap().keys.unwrap().access_key_id, "X");
    }

    #[test]
    fn what_cannot_be_is_told() {
        let home = home();
        let home = ("HOME", home.path().to_str().unwrap());
        for (variables, wanted) in [
            (&[home, ("AWS_PROFILE", "nobody")][..], "no profile `nobody`"),
            (&[home, ("AWS_PROFILE", "person")], "export-credentials"),
            (&[("AWS_ACCESS_KEY_ID", "X")], "AWS_SECRET_ACCESS_KEY"),
            (&[("AWS_ENDPOINT_URL", "minio:9000")], "https://HOST"),
            (&[("AWS_ENDPOINT_URL", "https://me:canary@minio:9000")], "it contains a password"),
        ] {
            let message = settings(variables).unwrap_err().to_string();
            assert!(message.contains(wanted) && !message.contains("canary"), "{message}");
        }
    }
}
