//! An object that may turn out not to be one, without failing the list or watch that it is part of.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::metadata::slim;

/// An object, or what is known of one that cannot be decoded.
#[derive(Clone, Debug)]
pub(super) enum Guarded<K> {
    /// It could be decoded.
    Valid(K),
    /// It could not.
    Invalid(Box<Undecodable>),
}

/// What is known of an object that cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct Undecodable {
    /// Empty when not even that could be read.
    pub(super) metadata: ObjectMeta,
    /// Path of the field where decoding ended.
    pub(super) field: String,
    /// What was wrong there.
    pub(super) error: String,
}

#[derive(Default, Deserialize)]
struct OnlyMetadata {
    #[serde(default, deserialize_with = "slim")]
    metadata: ObjectMeta,
}

impl<'de, K: Deserialize<'de>> Guarded<K> {
    fn decode(json: &'de str) -> Self {
        match serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json)) {
            Ok(object) => Self::Valid(object),
            Err(error) => {
                let metadata = serde_json::from_str::<OnlyMetadata>(json).unwrap_or_default().metadata;
                let field = error.path().to_string();
                Self::Invalid(Box::new(Undecodable { metadata, field, error: error.into_inner().to_string() }))
            }
        }
    }
}

impl<'de, K: for<'a> Deserialize<'a>> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self::decode(json.get()))
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Guarded<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Valid(object) => object.meta(),
            Self::Invalid(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Valid(object) => object.meta_mut(),
            Self::Invalid(invalid) => &mut invalid.metadata,
        }
    }
}
