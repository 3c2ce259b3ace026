//! Blocked addresses: domains, prefixes of addresses, and words in them.

use std::collections::HashSet;

use super::FilterOptions;

/// The block lists of a recipe.
pub struct UrlFilter {
    domains: HashSet<String>,
    beginnings: HashSet<String>,
    words: Vec<String>,
}

impl UrlFilter {
    /// Parses the lines of block lists. Empty lines and lines that start with `#` are ignored; a scheme is
    /// removed.
    pub fn new<'l>(options: &FilterOptions, lines: impl Iterator<Item = &'l str>) -> UrlFilter {
        let (mut domains, mut beginnings) = (HashSet::new(), HashSet::new());
        for line in lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let address = bare(line);
            match address.trim_end_matches('/') {
                domain if !domain.contains('/') => domains.insert(domain.to_owned()),
                _ => beginnings.insert(address),
            };
        }
        let words = options.url_block_words.iter().map(|word| word.to_lowercase()).collect();
        UrlFilter { domains, beginnings, words }
    }

    /// Why an address is blocked.
    pub fn filter(&self, url: &str) -> Option<&'static str> {
        let address = bare(url);
        let host = address.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let host = host.split_once(':').map_or(host, |(host, _)| host);
        let mut rest = Some(host);
        while let Some(domain) = rest {
            if self.domains.contains(domain) {
                return Some("blocked_domain");
            }
            rest = domain.split_once('.').map(|(_, parent)| parent);
        }
        let cuts = address.match_indices(['/', '?']).map(|(at, _)| at);
        if !self.beginnings.is_empty()
            && cuts.chain([address.len()]).any(|at| {
                self.beginnings.contains(&address[..at])
                    || self.beginnings.contains(address.get(..=at).unwrap_or(&address))
            })
        {
            return Some("blocked_address");
        }
        self.words.iter().any(|word| address.contains(word)).then_some("blocked_word")
    }
}

/// An address in lower case, without scheme and `www.`.
fn bare(url: &str) -> String {
    let url = url.trim().to_lowercase();
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    rest.strip_prefix("www.").unwrap_or(rest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_beginnings_and_words_block() {
        let options =
            FilterOptions { url_block_words: vec!["Casino".to_owned()], ..FilterOptions::default() };
        let filter = UrlFilter::new(&options, "# a list\nbad.org\nhttps://x.org/ads/\n\n".lines());
        let check = |url, wanted| assert_eq!(filter.filter(url), wanted, "{url}");
        check("https://www.bad.org/page", Some("blocked_domain"));
        check("http://sub.bad.org:80/", Some("blocked_domain"));
        check("https://notbad.org/", None);
        check("https://x.org/ads/1", Some("blocked_address"));
        check("https://x.org/adverts", None);
        check("https://y.org/a-casino-page", Some("blocked_word"));
    }
}
