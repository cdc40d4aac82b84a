//! Bounds of conversations between nodes, each with its reason.

use std::time::Duration;

/// Links a node keeps: more nodes than this want another topology.
pub const PEERS_MAX: usize = 256;
/// Inbound connections: two a peer, for the moment when a new one replaces an old one.
pub const SESSIONS_MAX: usize = 2 * PEERS_MAX;
/// Inbound connections that have not introduced themselves. Strangers can hold no more than these; the oldest makes room.
pub const SHAKING_MAX: usize = 64;
/// Children of the nursery: an ended session counts until its runner is gone.
pub const NURSERY_CAP: usize = PEERS_MAX + 2 * SESSIONS_MAX;
/// How long a connection may take to be made.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long the two frames of a handshake may take (`promises.md` P24).
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How often a link asks for a sign of life.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// A connection without a byte for so long is dead: a dead node must be noticed within 5 s.
pub const SILENCE_MAX: Duration = Duration::from_millis(4_500);
/// A peer that takes no byte of what waits for it for so long does not read; what waits only grows.
pub const STALL_MAX: Duration = Duration::from_secs(5);
/// The wait before the first reconnect; it doubles to `RECONNECT_MAX`.
pub const RECONNECT_FIRST: Duration = Duration::from_millis(50);
pub const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// How often deadlines of requests are looked at: a client's are seconds.
pub const SWEEP_EVERY: Duration = Duration::from_millis(25);
/// Requests of one link that wait to be sent or answered: 400 ms of the fastest peer measured.
pub const REQUESTS_MAX: usize = 8_192;
/// Requests of one session that are being served; more are answered `Overloaded`.
pub const SERVING_MAX: usize = REQUESTS_MAX;
/// Bytes of those requests: as many as the peer's request lane may hold.
pub const SERVING_BYTES_MAX: usize = LANE_BYTES_MAX[1];
/// Messages to a link that wait for its thread.
pub const MAILBOX_LINK: usize = 8_192;
/// Answers come past this bound; there are at most `SERVING_MAX`.
pub const MAILBOX_SESSION: usize = 8_192;
/// Orders of the rings of this world: admissions, dials.
pub const MAILBOX_DIRECTORY: usize = 256;
/// Refused nodes that are remembered for people.
pub const REFUSALS_MAX: usize = 64;
/// A refused node that was not heard for so long is forgotten: it asks again every `RECONNECT_MAX`.
pub const REFUSAL_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Bytes of answers that wait for a peer before no more of it is read: what it asks next waits in its own kernel.
pub const ANSWERS_BYTES_MAX: usize = 8 << 20;
/// Frames that wait in a lane: urgent, request, bulk.
pub const LANE_FRAMES_MAX: [usize; 3] = [1_024, 8_192, 256];
/// Bytes that wait in a lane. An empty lane takes any frame.
pub const LANE_BYTES_MAX: [usize; 3] = [8 << 20, 64 << 20, 32 << 20];
/// One bulk frame goes after so many request frames, so that a flood of requests does not starve it.
pub const BULK_ONE_IN: u32 = 8;
/// Bytes taken out of the lanes ahead of the socket: what an urgent frame may find before it, beside one frame.
pub const OUTPUT_BYTES: usize = 128 << 10;
/// A body shorter than this is copied behind its header; a longer one goes to the kernel from where it lies.
pub const COPIED_BELOW: usize = 4 << 10;
/// Pieces of one vectored write.
pub const PIECES_MAX: usize = 64;
/// What one read asks the kernel for.
pub const READ_BYTES: usize = 64 << 10;
/// What a stranger's first read asks for.
pub const READ_BYTES_SHAKING: usize = 4 << 10;
/// Reads of one connection before its siblings have their turn.
pub const READS_PER_POLL: usize = 8;
/// The listener waits so long after the system refused it a connection (out of descriptors).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted before the siblings have their turn.
pub const ACCEPTS_PER_POLL: usize = 16;

const _: () = assert!(HEARTBEAT_EVERY.as_millis() * 4 <= SILENCE_MAX.as_millis());
const _: () = assert!(SHAKING_MAX <= SESSIONS_MAX);
const _: () = assert!(RECONNECT_MAX.as_millis() * 4 <= REFUSAL_FORGOTTEN_AFTER.as_millis());
