//! Bounds that more than one room must respect; each with its reason.

/// A partition key over HTTP: it must fit a request line with room for escapes (a third of 32 KiB head / 3).
pub const HTTP_KEY_BYTES_MAX: usize = 4 << 10;
/// A partition or clustering key anywhere: Cassandra's bound, so that data moves between the two.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// One value: large enough for documents, small enough that a frame, a log record and a copy of it stay cheap.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// One encoded mutation: the largest value with its keys, context and framing.
pub const MUTATION_BYTES_MAX: usize = 16 << 20;
/// Keyspace, table and column names: `[a-z0-9_]{1,48}`, as Cassandra's. Names never become file paths.
pub const NAME_BYTES_MAX: usize = 48;
/// Siblings one answer shows, in dot order; `more` counts the rest.
pub const SIBLINGS_SHOWN_MAX: usize = 64;
/// Siblings of one key past which a node warns: somebody writes without reading.
pub const SIBLINGS_WARN: usize = 16;
/// Siblings of one key past which a client's write without context is refused (from two siblings on).
pub const SIBLINGS_MAX: usize = 64;
/// Bytes of sibling bodies of one key past which a client's write without context is refused.
pub const SIBLING_BYTES_MAX: usize = 1 << 20;
/// An idempotency key; longer ones are refused.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// A stored content type; longer ones are refused.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// The longest a client may ask a request to take.
pub const DEADLINE_MS_MAX: u64 = 60_000;
/// How long a request may take when the client does not say.
pub const DEADLINE_MS_DEFAULT: u64 = 5_000;

const _: () = assert!(VALUE_BYTES_MAX + 2 * KEY_BYTES_MAX < MUTATION_BYTES_MAX);
const _: () = assert!(HTTP_KEY_BYTES_MAX <= KEY_BYTES_MAX);
