//! CBOR of requests and answers: plain RFC 8949, which need not be canonical, since nobody signs it.
//!
//! The one other module that names `serde_cbor`. Bodies have been cut to size before they come here, and the library bounds
//! nesting at 128.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a body.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_cbor::from_slice(bytes).map_err(|error| error.to_string())
}

/// Writes a body.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    serde_cbor::to_vec(value).map_err(|error| error.to_string())
}
