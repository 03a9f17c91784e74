//! The `cilium.io` resources: Rust types, and the definitions by which an API server knows them.
//!
//! Names, shapes, short names and printer columns are Cilium's, so that manifests, `kubectl get cep`, selectors and tools
//! keep their meaning; `tests/fields/` lists every field path with its type and a test compares. Descriptions are our own.
//!
//! Use [`all`] for definitions, not the derived `CiliumEndpoint::crd()`: the derive cannot express everything (see
//! [`definition`]).

pub mod definition;
pub mod v2;
pub mod v2alpha1;

pub use definition::{Manifest, SCHEMA_VERSION_LABEL, all, manifests, needs_update, schema_version, to_yaml};
