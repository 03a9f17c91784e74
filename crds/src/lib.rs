//! The `cilium.io` resources: Rust types, and the definitions by which an API server knows them.
//!
//! Names, shapes, short names and printer columns are Cilium's, so that manifests, `kubectl get cep`, selectors and tools
//! keep their meaning. The schemas are exactly Cilium's: `tests/parity/` has a summary of those and compares. Descriptions and
//! messages are our own.
//!
//! Use [`all`] for definitions, not the derived `CiliumEndpoint::crd()`, which has no schema (see [`definition`]).

pub mod definition;
pub mod meta;
mod schema;
pub mod v2;
pub mod v2alpha1;

pub use definition::{Manifest, SCHEMA_VERSION_LABEL, all, manifests, needs_update, schema_version, to_yaml, yaml};
