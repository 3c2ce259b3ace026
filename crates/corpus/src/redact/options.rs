//! The recipe's `[data.redact]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kinds of values to redact; of two that overlap the first has priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// API keys, tokens, private keys, passwords in URLs.
    Secret,
    /// E-mail addresses.
    Email,
    /// International bank account numbers.
    Iban,
    /// Payment card numbers.
    CreditCard,
    /// National identity numbers.
    NationalId,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Telephone numbers.
    Phone,
}

impl Class {
    /// All values, in order.
    pub const ALL: [Class; 7] = [
        Class::Secret,
        Class::Email,
        Class::Iban,
        Class::CreditCard,
        Class::NationalId,
        Class::Ip,
        Class::Phone,
    ];

    /// The name in recipes and reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Secret => "secret",
            Class::Email => "email",
            Class::Iban => "iban",
            Class::CreditCard => "credit_card",
            Class::NationalId => "national_id",
            Class::Ip => "ip",
            Class::Phone => "phone",
        }
    }

    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Class::Secret => "SECRET",
            Class::Email => "EMAIL",
            Class::Iban => "IBAN",
            Class::CreditCard => "CARD",
            Class::NationalId => "ID",
            Class::Ip => "IP",
            Class::Phone => "PHONE",
        }
    }
}

/// Countries whose identity numbers are redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Country {
    /// Brazil: CPF.
    Br,
    /// Canada: SIN.
    Ca,
    /// China: resident identity number.
    Cn,
    /// Germany: Steuer-ID.
    De,
    /// Spain: DNI and NIE.
    Es,
    /// France: NIR.
    Fr,
    /// United Kingdom: National Insurance number.
    Gb,
    /// India: Aadhaar.
    In,
    /// Italy: codice fiscale.
    It,
    /// Netherlands: BSN.
    Nl,
    /// Poland: PESEL.
    Pl,
    /// Sweden: personnummer.
    Se,
    /// United States: SSN and ITIN.
    Us,
}

impl Country {
    /// All values, in order.
    pub const ALL: [Country; 13] = [
        Country::Br,
        Country::Ca,
        Country::Cn,
        Country::De,
        Country::Es,
        Country::Fr,
        Country::Gb,
        Country::In,
        Country::It,
        Country::Nl,
        Country::Pl,
        Country::Se,
        Country::Us,
    ];
}

/// What to replace with placeholders. An empty table covers all kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactOptions {
    /// Kinds to redact: "secret", "email", "iban", "credit_card", "national_id", "ip", "phone". Default: all.
    pub classes: Vec<Class>,
    /// Countries whose identity numbers are redacted: "br", "ca", "cn", "de", "es", "fr", "gb", "in", "it",
    /// "nl", "pl", "se", "us". Default: all.
    pub countries: Vec<Country>,
    /// Redact public IP addresses only: keep addresses of private networks, loopback and documentation.
    pub public_ips_only: bool,
}

impl Default for RedactOptions {
    fn default() -> RedactOptions {
        RedactOptions {
            classes: Class::ALL.to_vec(),
            countries: Country::ALL.to_vec(),
            public_ips_only: true,
        }
    }
}
