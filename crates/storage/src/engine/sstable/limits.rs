//! Bounds of the SSTable format, each with its reason. `docs/format/sstable.md` names those a reader must enforce.

/// Plain bytes a data block aims for: large enough that lz4 finds repetition and that the index stays below a
/// thousandth of the data, small enough that a cold point read costs one short read.
pub const BLOCK_BYTES_DEFAULT: usize = 16 << 10;
/// The smallest target a writer accepts; tests use it to make many blocks out of little data.
pub const BLOCK_BYTES_MIN: usize = 64;
/// The largest target a writer accepts: past it a point read pays for neighbours it does not want.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Plain bytes one frame may declare. Checked before anything is allocated (a bomb of 64 KiB stays below it by the
/// ratio). The largest value, with its keys and framing, fits one frame; longer blocks are several frames.
pub const FRAME_PLAIN_BYTES_MAX: usize = 16 << 20;
/// Plain bytes a stored byte may become. LZ4 itself cannot pass 255.
pub const FRAME_RATIO_MAX: usize = 256;
/// A frame is stored compressed only if that saves at least this share (1/16) of it: decompression is paid at each
/// read, the bytes only once.
pub const COMPRESSION_GAIN_SHARE: usize = 16;
/// Plain bytes an index block aims for: about 400 data blocks (6 MiB of data), in a few hundred nanoseconds.
pub const INDEX_BLOCK_BYTES: usize = 4 << 10;
/// Entries from one restart of an index block to the next: the linear part of a search. Half of a point read in the index
/// went there with 16; four cost a hundredth of a per cent of the data in size.
pub const INDEX_RESTART_ENTRIES: usize = 4;
/// Partition keys one filter part is built over: bounds the builder's memory to about 10 MB for any table.
pub const FILTER_PART_KEYS: usize = 1 << 18;
/// Bytes of a `Statistics.db`: two partition keys of 64 KiB and the fixed fields.
pub const STATISTICS_BYTES_MAX: u64 = 256 << 10;
/// Data bytes gathered before they are handed to the disk: one system call for some twenty blocks.
pub const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// One row, or one partition's header, as encoded: what the block's 32-bit lengths can say with room for the keys.
pub const ENTRY_BYTES_MAX: usize = 1 << 30;

const _: () = assert!(kula_types::limits::MUTATION_BYTES_MAX <= FRAME_PLAIN_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES_DEFAULT >= BLOCK_BYTES_MIN && BLOCK_BYTES_DEFAULT <= BLOCK_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES_MAX <= FRAME_PLAIN_BYTES_MAX && INDEX_BLOCK_BYTES <= FRAME_PLAIN_BYTES_MAX);
const _: () = assert!(STATISTICS_BYTES_MAX > 3 * kula_types::limits::KEY_BYTES_MAX as u64);
const _: () = assert!(ENTRY_BYTES_MAX <= u32::MAX as usize / 2);
