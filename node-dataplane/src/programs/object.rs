//! What the built object holds, before anything is loaded.

use std::collections::BTreeMap;

use axoneme_bpf::{maps, objects};
use aya_obj::{Object, ParseError};

use super::definition::Definition;
use super::sizes::Size;

/// Definitions of all maps of the object, with `sizes` in place of its own.
pub(super) fn definitions(sizes: &[Size]) -> Result<BTreeMap<&'static str, Definition>, ParseError> {
    let object = Object::parse(objects::AXONEME)?;
    let defined = maps::ALL.iter().filter_map(|&name| {
        let map = object.maps.get(name)?;
        let size = sizes.iter().find(|size| size.map == name);
        let definition = Definition {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            flags: map.map_flags(),
            max_entries: size.map_or(map.max_entries(), |size| size.entries),
            exact_entries: size.is_none_or(|size| size.configured),
        };
        Some((name, definition))
    });
    Ok(defined.collect())
}
