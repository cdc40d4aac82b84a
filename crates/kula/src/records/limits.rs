//! Bounds of what is read from a file; each with its reason.

pub use kula_types::limits::{CONTENT_TYPE_BYTES_MAX, HTTP_KEY_BYTES_MAX as KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Bytes of a file that one record may take: the largest value in base64 with its key and names. What is longer is passed
/// over without being held.
pub const RECORD_BYTES_MAX: usize = 12 << 20;
/// Fields of one record, and columns of a csv: names are compared with each other, so they are few. Package indexes have
/// about 60.
pub const FIELDS_MAX: usize = 1_024;

const _: () = assert!(RECORD_BYTES_MAX > VALUE_BYTES_MAX / 3 * 4 + KEY_BYTES_MAX);
