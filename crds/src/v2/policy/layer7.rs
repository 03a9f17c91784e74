//! What may be said on a connection: HTTP, DNS, TLS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{exactly_one, patterns};

/// What may be said on a connection.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = exactly_one(&["http", "dns"]))]
pub struct Layer7Rules {
    /// Requests of HTTP, any of which may be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<HttpRule>>,
    /// Names that may be asked for in DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<DnsRule>>,
}

/// A request of HTTP. All fields must match; texts are regular expressions.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRule {
    /// Path of the request; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its method; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Its host; absent: any.
    #[schemars(extend("format" = "idn-hostname"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Headers that must be there, as `name` or `name: value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
    /// Headers that must have a value, and what is done if they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_matches: Option<Vec<HeaderMatch>>,
}

/// A header and its value.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct HeaderMatch {
    /// Name of the header.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value is kept, if it is secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// What is done with a request without it; absent: dropped.
    #[schemars(extend("enum" = ["LOG", "ADD", "DELETE", "REPLACE"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<String>,
}

/// Names that may be asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = exactly_one(&["matchName", "matchPattern"]))]
#[serde(rename_all = "camelCase")]
pub struct DnsRule {
    /// This very name.
    #[schemars(length(max = 255), extend("pattern" = patterns::DOMAIN))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_name: Option<String>,
    /// Names with wildcards, as in [`FqdnSelector`](super::FqdnSelector).
    #[schemars(length(max = 255), extend("pattern" = patterns::DOMAIN_PATTERN))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_pattern: Option<String>,
}

/// Keys and certificates of one end of TLS.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsContext {
    /// The Secret that has them.
    pub secret: Secret,
    /// Key in it of the authorities that are trusted; absent: `ca.crt`.
    #[serde(rename = "trustedCA", skip_serializing_if = "Option::is_none")]
    pub trusted_ca: Option<String>,
    /// Key in it of the certificate; absent: `tls.crt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Key in it of the private key; absent: `tls.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
}

/// A Secret of Kubernetes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Secret {
    /// Its namespace; absent: it depends on where this stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}
