//! A secret in JSON that goes over the wire between a base and its nodes, and into a node's
//! journal: `#[serde(with = "..")]` of a field that nothing else shows.

use serde::{Deserialize as _, Deserializer, Serializer};

use crate::base::secret::Secret;

/// Writes its text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(secret: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => to.serialize_some(secret.expose()),
        None => to.serialize_none(),
    }
}

/// Reads what `serialize` wrote.
///
/// # Errors
/// Those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::new))
}
