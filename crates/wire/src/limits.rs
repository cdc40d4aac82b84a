//! Bounds of what goes between our own processes, each with its reason.

use kula_types::limits::{KEY_BYTES_MAX, MUTATION_BYTES_MAX};

/// The header of a frame behind its length: `docs/format/frame.md`.
pub const FRAME_HEADER_BYTES: usize = 40;
/// What a verb adds to the largest thing it may carry: a table, keys, fences.
pub const BODY_HEADROOM_BYTES: usize = 256 << 10;
/// The body of one frame: the largest mutation, and what its verb says beside it.
pub const BODY_BYTES_MAX: usize = MUTATION_BYTES_MAX + BODY_HEADROOM_BYTES;
/// One frame behind its length. A longer one is refused when its length is read.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + BODY_BYTES_MAX;
/// One frame while nobody knows who is speaking: a hello or its answer with every text at its bound.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 4 << 10;
/// A name or an address in a hello.
pub const TEXT_BYTES_MAX: usize = 256;

const _: () = assert!(4 * KEY_BYTES_MAX <= BODY_HEADROOM_BYTES);
const _: () = assert!(MUTATION_BYTES_MAX + FRAME_HEADER_BYTES <= FRAME_BYTES_MAX);
const _: () = assert!(FRAME_HEADER_BYTES + 8 * TEXT_BYTES_MAX <= HANDSHAKE_FRAME_BYTES_MAX);
