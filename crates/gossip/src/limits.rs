//! Bounds of gossip, each with its reason.

use kula_wire::limits::TEXT_BYTES_MAX;
use std::time::Duration;

/// Nodes that are known. As many as `transport` keeps links to: more want another topology. One more is refused, counted.
pub const NODES_MAX: usize = 256;
/// Facts a node announces: there are as many kinds as rooms that announce.
pub const FACTS_MAX: usize = 16;
/// The value of a fact: a number or a digest, not a document.
pub const FACT_BYTES_MAX: usize = 256;
/// What a node suspects at a time: everybody else.
pub const SUSPICIONS_MAX: usize = NODES_MAX;
/// A data centre's or a rack's name.
pub const PLACE_BYTES_MAX: usize = TEXT_BYTES_MAX;
/// The body of one message: a moment of a slow link, and nothing that an urgent frame should wait for.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// One digest: id, two numbers.
pub const DIGEST_BYTES_MAX: usize = 17 + 9 + 9;
/// Everything one node says: introduction, about, numbers, facts, suspicions, with their numbers.
pub const SAID_BYTES_MAX: usize = (3 * (TEXT_BYTES_MAX + 12) + 96)
    + (TEXT_BYTES_MAX + 2 * PLACE_BYTES_MAX + 64)
    + 64
    + FACTS_MAX * (FACT_BYTES_MAX + 24)
    + SUSPICIONS_MAX * (17 + 9 + 9 + 5);
/// What a delta adds to what it carries: id, three numbers, a length.
pub const DELTA_HEAD_BYTES_MAX: usize = 17 + 4 * 9;
/// Lengths of a message's lists.
pub const HEAD_BYTES: usize = 32;
/// A generation is a wall clock's microseconds or a little above a peer's. Past this somebody lies.
pub const GENERATION_MAX: u64 = 1 << 62;
/// Sayings of one process. Past this somebody lies.
pub const VERSION_MAX: u64 = 1 << 62;

pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
pub const INTERVAL_MAX: Duration = Duration::from_secs(10);
pub const DOWN_SOURCES_DEFAULT: u32 = 2;
/// More would keep a dead node's state open for ever in small clusters.
pub const DOWN_SOURCES_MAX: u32 = 5;
/// How much earlier or later than the interval a round begins, as a part of it: rounds of many nodes drift apart.
pub const JITTER: f64 = 0.1;
/// How long a peer may take to answer a comparison. Its answer is a message of at most `BODY_BYTES_MAX`.
pub const TALK_WITHIN: Duration = Duration::from_secs(1);
/// Peers that own news go to at once: everybody, in a small cluster.
pub const FANOUT_OWN: usize = 8;
/// Peers that others' news go on to at once: enough that news reach everybody in a few hops, few enough to die out.
pub const FANOUT_OTHERS: usize = 2;
/// Own news wait this long for company after others went out.
pub const SPREAD_EVERY: Duration = Duration::from_millis(20);
/// As `SPREAD_EVERY`, for others' news: they are many when a cluster changes.
pub const PASS_ON_EVERY: Duration = Duration::from_millis(100);
/// Once in so many rounds the partner is one that does not answer, if its connection stands.
pub const SILENT_ONE_IN: f64 = 8.0;

/// Up to so many nodes, everybody is probed in each interval; of more, so many by turns.
pub const PROBED_EACH_ROUND: usize = 8;
/// How long a probed node may take (`design.md` §4: a dead one is noticed within 5 s).
pub const PROBE_WITHIN: Duration = Duration::from_millis(500);
/// How long helpers may take, together.
pub const HELP_WITHIN: Duration = Duration::from_millis(500);
/// How long a helper lets the target take: its answer must be back before `HELP_WITHIN`.
pub const HELPING_WITHIN: Duration = Duration::from_millis(400);
pub const HELPERS: usize = 3;
/// A machine that is called so long after it was due stood still, and so did its ears.
pub const STOOD_STILL: Duration = Duration::from_millis(400);
/// After a missed probe the next begins so long after it began.
pub const PROBE_AGAIN: Duration = Duration::from_millis(500);
/// Own probes under way: more wait for a later round.
pub const PROBES_MAX: usize = 64;
/// Probes under way for others: more are not begun, and the asker counts on its other helpers.
pub const HELPS_MAX: usize = 64;
/// A probe that failed is not missed if the node itself spoke to us within so many intervals, on its own connection.
pub const VOICE_INTERVALS: f64 = 1.5;
/// A source suspects firmly, and its word counts for DOWN, after so many missed probes in a row.
pub const MISSED_FIRM: u32 = 2;
/// As `MISSED_FIRM`, where one source must do: two members.
pub const MISSED_ALONE: u32 = 3;
/// Higher counts of missed probes say nothing new.
pub const MISSED_SAID_MAX: u32 = MISSED_ALONE;
/// How long somebody's suspicion stands without being said again.
pub const SUSPICION_STANDS: Duration = Duration::from_secs(10);
/// And no shorter than so many intervals.
pub const SUSPICION_STANDS_ROUNDS: u32 = 5;
/// How often a suspicion that goes on is said again: twice before it expires, with room for the way.
pub const SUSPICION_AGAIN: Duration = Duration::from_secs(3);
/// A node that refuted is not declared down for so long; each further refutation doubles it to `REFUTED_HOLD_MAX`. A node
/// that only some can reach would otherwise go down and up with each rumour.
pub const REFUTED_HOLD: Duration = Duration::from_secs(1);
pub const REFUTED_HOLD_MAX: Duration = Duration::from_secs(30);
/// Without a refutation for so long, the next one counts as the first.
pub const REFUTED_FORGOTTEN: Duration = Duration::from_secs(60);
/// A node declared down whose heart has beaten so often since is not: more than can be on its way when a node dies.
pub const REVIVING_BEATS: u64 = 16;
/// A smoothed answer time that makes a node slow, and the one that ends it: half of what a probe may take, and a quarter.
pub const SLOW_FROM: Duration = Duration::from_millis(250);
pub const SLOW_UNTIL: Duration = Duration::from_millis(125);
/// Being cut off is said in the log when it lasts so long: a start, or a peer that restarts, is no news.
pub const CUT_OFF_SAID: Duration = Duration::from_secs(2);
/// Who was cut off declares nobody down for so long after it: time to probe everybody anew, and to be told.
pub const CUT_OFF_REMEMBERED: Duration = Duration::from_secs(2);
/// A node outside the electorate that is down for so long is forgotten, and does not come back by rumour for twice that.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);

/// What a clean stop waits for its farewell to leave by the connections.
pub const LEAVING: Duration = Duration::from_millis(50);
/// Rooms that hear of members.
pub const SUBSCRIBERS_MAX: usize = 64;
/// Messages that wait for the actor: signs of life come past the bound of nobody else's.
pub const MAILBOX: usize = 1_024;

const _: () = assert!(HELPING_WITHIN.as_millis() < HELP_WITHIN.as_millis());
const _: () = assert!(SUSPICION_AGAIN.as_millis() * 3 < SUSPICION_STANDS.as_millis());
const _: () = assert!(MISSED_FIRM < MISSED_ALONE);
// Any digest list and any one node's whole news fit one message together.
const _: () = assert!(NODES_MAX * DIGEST_BYTES_MAX + SAID_BYTES_MAX + DELTA_HEAD_BYTES_MAX + 64 <= BODY_BYTES_MAX);
