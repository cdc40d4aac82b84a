//! Bounds of the disk room, each with its reason.

/// The longest name below a root: far under PATH_MAX, so no root of sane depth makes a call fail.
pub const NAME_BYTES_MAX: usize = 512;
/// Payload of one state file: read into memory whole at start, so a damaged length must not be able to fill it.
pub const STATE_BYTES_MAX: usize = 64 << 20;
/// Spare segments a log keeps for reuse unless told otherwise: one in the making, one in hand.
pub const LOG_SPARES_DEFAULT: usize = 2;
/// Bytes of a log segment unless told otherwise: the largest mutation fits, and a restart rereads at most one twice.
pub const LOG_SEGMENT_BYTES_DEFAULT: u32 = 32 << 20;
/// Most damaged places one replay lists; past it only the count grows.
pub const LOG_DAMAGE_LISTED_MAX: usize = 64;
/// Bytes replay reads at a time: large enough that a read call costs nothing beside its bytes.
pub(crate) const LOG_WINDOW_BYTES: usize = 1 << 20;
/// Capacity the append buffer keeps between batches; a larger batch gives its memory back.
pub(crate) const LOG_BUFFER_KEPT_BYTES: usize = 4 << 20;
/// Bytes written at a time where the file system cannot allocate without writing.
pub(crate) const ZERO_FILL_BYTES: usize = 256 << 10;
