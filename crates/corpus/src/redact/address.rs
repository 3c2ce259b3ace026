//! E-mail addresses, passwords in web addresses, IPv4 and IPv6.

use std::net::{Ipv4Addr, Ipv6Addr};

use memchr::memchr_iter;

use super::finding::{Finding, begins, ends, is_told};
use super::options::Class;

/// RFC 5321's longest local part and domain.
const LONGEST_LOCAL: usize = 64;
const LONGEST_DOMAIN: usize = 255;
/// What looks like a top-level domain and is a file's ending.
const FILE_ENDINGS: [&str; 12] =
    ["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "service", "socket", "target"];
/// Accounts that are no person's.
const SHARED_ACCOUNTS: [&str; 3] = ["git", "hg", "svn"];

/// Finds addresses around each @, and passwords before it.
pub fn find_email(text: &str, found: &mut Vec<Finding>) {
    for at in memchr_iter(b'@', text.as_bytes()) {
        if let Some(password) = url_password(text, at) {
            found.push(password);
            continue;
        }
        let is_local = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'');
        let is_domain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-');
        let local = &text[text.ceil_char_boundary(at.saturating_sub(LONGEST_LOCAL + 1))..at];
        let local = &local[local.trim_end_matches(is_local).len()..];
        let local = local.trim_start_matches(['.', '\'', '-', '+', '%']);
        let domain = &text[at + 1..text.floor_char_boundary((at + 1 + LONGEST_DOMAIN).min(text.len()))];
        let domain = &domain[..domain.len() - domain.trim_start_matches(is_domain).len()];
        let domain = domain.trim_end_matches(['.', '-']);
        let Some((host, top)) = domain.rsplit_once('.') else { continue };
        let is_top = (2..=24).contains(&top.len())
            && top.chars().all(char::is_alphabetic)
            && !FILE_ENDINGS.iter().any(|ending| top.eq_ignore_ascii_case(ending));
        let is_host = !host.is_empty() && !host.starts_with(['.', '-']) && !host.contains("..");
        let is_account = !local.is_empty()
            && local.len() <= LONGEST_LOCAL
            && !local.ends_with('.')
            && !local.contains("..")
            && !SHARED_ACCOUNTS.contains(&local);
        if is_top && is_host && is_account {
            let (start, end) = (at - local.len(), at + 1 + domain.len());
            found.push(Finding { class: Class::Email, kind: "email", start, end });
        }
    }
}

/// The password of `scheme://user:password@host`.
fn url_password(text: &str, at: usize) -> Option<Finding> {
    let from = text.ceil_char_boundary(at.saturating_sub(200));
    let before = &text[from..at];
    let scheme = before.rfind("://")?;
    let account = &before[scheme + 3..];
    let (user, password) = account.split_once(':')?;
    let is_part =
        |part: &str| !part.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '<' | '>'));
    let is_secret = password.len() >= 3 && !password.starts_with(['$', '{', '[', '*']);
    (is_part(user) && is_part(password) && is_secret).then_some(Finding {
        class: Class::Secret,
        kind: "url_password",
        start: at - password.len(),
        end: at,
    })
}

/// Finds IPv6 addresses around colons.
pub fn find_ipv6(text: &str, public_only: bool, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let mut seen = 0;
    for colon in memchr_iter(b':', bytes) {
        // An address has a hexadecimal digit or another colon on both sides of its first colon.
        if colon < seen || colon + 1 >= bytes.len() || !is_part(bytes[colon + 1]) {
            continue;
        }
        let start = bytes[..colon].iter().rposition(|&byte| !is_part(byte)).map_or(0, |before| before + 1);
        let length = bytes[colon..].iter().position(|&byte| !is_part(byte)).unwrap_or(bytes.len() - colon);
        seen = colon + length;
        let end = start + text[start..seen].trim_end_matches('.').len();
        if end - start < 3 || !begins(text, start) || !ends(text, end) {
            continue;
        }
        let Ok(address) = text[start..end].parse::<Ipv6Addr>() else { continue };
        let first = address.segments()[0];
        let is_documentation = first == 0x2001 && address.segments()[1] == 0x0db8;
        if (0x2000..=0x3fff).contains(&first) && !is_documentation || !public_only && first != 0 {
            found.push(Finding { class: Class::Ip, kind: "ipv6", start, end });
        }
    }
}

/// Whether four groups of digits with dots between are an address and not a version.
pub fn is_ipv4(text: &str, start: usize, octets: [u32; 4], public_only: bool) -> bool {
    let [a, b, c, d] = octets.map(|octet| u8::try_from(octet).ok());
    let (Some(a), Some(b), Some(c), Some(d)) = (a, b, c, d) else { return false };
    let address = Ipv4Addr::new(a, b, c, d);
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_private = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_broadcast()
        || address.is_multicast()
        || is_shared
        || a >= 240
        || a == 0;
    if public_only && is_private {
        return false;
    }
    const VERSION: [&str; 14] = [
        "version", "versions", "ver", "v", "release", "kernel", "linux", "firmware", "section", "chapter",
        "build", "update", "revision", "oid",
    ];
    const HOST: [&str; 9] = ["ip", "address", "host", "server", "dns", "ping", "from", "client", "ipv4"];
    if octets.iter().all(|&octet| octet < 20) {
        return is_told(text, start, &HOST) && !is_told(text, start, &VERSION);
    }
    !is_told(text, start, &VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        find_email(text, &mut found);
        find_ipv6(text, true, &mut found);
        found.iter().map(|finding| &text[finding.start..finding.end]).collect()
    }

    #[test]
    fn addresses_are_told_from_what_looks_like_them() {
        assert_eq!(found("a.b+c@x-y.co.uk, <ü@müller.de>."), ["a.b+c@x-y.co.uk", "ü@müller.de"]);
        assert_eq!(found("git@github.com:a/b logo@2x.png @user pkg@1.2.3 a@b x@y..z"), [""; 0]);
        assert_eq!(found("postgres://app:s3cret@db.host/x"), ["s3cret"]);
        assert_eq!(
            found("at 2a00:1450:4001:81b::200e, 12:30:45, std::fmt, 00:1b:44:11:3a:b7, ::1, fe80::1"),
            ["2a00:1450:4001:81b::200e"]
        );
    }
}
