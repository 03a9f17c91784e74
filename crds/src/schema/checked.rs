//! Schemas of values that the API server checks more closely than Rust's type says. Fields hold plain strings and numbers:
//! what is stored is given back as it was written, and an object that a later version allows is still read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::patterns;

macro_rules! checked {
    ($($(#[$doc:meta])* $name:ident = $schema:tt;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

checked! {
    /// A prefix (`10.0.0.0/24`).
    Cidr = {"type": "string", "format": "cidr"};
    /// A number of things.
    Count = {"type": "integer", "minimum": 0};
    /// Value of a label.
    LabelValue = {"type": "string", "maxLength": 63, "pattern": patterns::LABEL_VALUE};
    /// A class of peers that have no labels of their own.
    Entity = {"type": "string", "enum": [
        "all", "world", "cluster", "host", "init", "ingress", "unmanaged", "remote-node", "health", "none", "kube-apiserver",
    ]};
    /// Number or name of a type of ICMP messages.
    IcmpType = {
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": patterns::ICMP_TYPE,
    };
    /// A server's name in TLS, with wildcards.
    ServerName = {"type": "string", "maxLength": 255, "pattern": patterns::DOMAIN_PATTERN};
    /// A prefix outside the cluster, of either family.
    EgressCidr = {"type": "string", "pattern": patterns::EGRESS_CIDR};
    /// A BGP community of two numbers, or of one.
    StandardCommunity = {"type": "string", "pattern": patterns::STANDARD_COMMUNITY};
    /// A BGP community of three numbers.
    LargeCommunity = {"type": "string", "pattern": patterns::LARGE_COMMUNITY};
    /// A BGP community with a name.
    WellKnownCommunity = {"type": "string", "enum": [
        "internet", "planned-shut", "accept-own", "route-filter-translated-v4", "route-filter-v4",
        "route-filter-translated-v6", "route-filter-v6", "llgr-stale", "no-llgr", "blackhole", "no-export", "no-advertise",
        "no-export-subconfed", "no-peer",
    ]};
    /// A kind of a Service's addresses.
    ServiceAddress = {"type": "string", "enum": ["LoadBalancerIP", "ClusterIP", "ExternalIP"]};
    /// An object of any fields.
    AnyObject = {"type": "object", "x-kubernetes-preserve-unknown-fields": true};
}
