//! The recipe's `[data.redact]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is looked for; of two that overlap the first stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// API keys, tokens, private keys, passwords in addresses.
    Secret,
    /// E-mail addresses.
    Email,
    /// International bank account numbers.
    Iban,
    /// Payment cards.
    CreditCard,
    /// Numbers by which a state knows a person.
    NationalId,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Telephone numbers.
    Phone,
}

impl Class {
    /// All of them.
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

/// Whose national numbers are looked for.
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
    /// All of them.
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

/// What is replaced by placeholders. An empty table looks for everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactOptions {
    /// "secret", "email", "iban", "credit_card", "national_id", "ip", "phone".
    pub classes: Vec<Class>,
    /// Whose national numbers: "br", "ca", "cn", "de", "es", "fr", "gb", "in", "it", "nl", "pl", "se", "us".
    pub countries: Vec<Country>,
    /// Leave addresses of private networks, of loops and of documentation as they are.
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
