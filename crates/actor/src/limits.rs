//! Bounds of the actor furniture, each with its reason.

use std::time::Duration;

/// A mailbox nobody configured: at a microsecond a message it is a millisecond of work.
pub const MAILBOX_CAP_DEFAULT: usize = 1_024;
/// The largest mailbox a configuration may ask for: more would only hide that the actor cannot keep up.
pub const MAILBOX_CAP_MAX: usize = 1 << 20;
/// Messages an actor handles before it yields to its siblings on the same thread. Also the largest batch that
/// `KulaContext::after_drain` stands for.
pub const HANDLED_PER_POLL: u32 = 256;
/// One message in so many carries the time it was sent: two clock reads cost more than the rest of the meter.
pub const SAMPLE_ONE_IN: u64 = 16;
/// Restarts of one supervisor's children within `RESTARTS_WITHIN`; one more escalates.
pub const RESTARTS_MAX: u32 = 5;
/// The window of `RESTARTS_MAX`.
pub const RESTARTS_WITHIN: Duration = Duration::from_secs(30);
/// The wait before a first restart: long enough for a passing cause to pass, too short for a client to notice.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// The longest wait before a restart: a full mailbox sheds meanwhile.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long a child may take to be up before the next one is started anyway.
pub const START_WITHIN: Duration = Duration::from_secs(10);
/// How long one child's drain and stop may take together; then its siblings are stopped and it is left behind.
pub const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long a fenced tree waits for its children to fall silent before it ends without them.
pub const KILL_WITHIN: Duration = Duration::from_secs(1);
/// How often the observer looks, if nobody says otherwise.
pub const MAILBOX_EVERY: Duration = Duration::from_secs(10);
/// A window of rates shorter than this says nothing; the one before it is used.
pub const WINDOW_MIN: Duration = Duration::from_secs(1);

const _: () = assert!(MAILBOX_CAP_DEFAULT <= MAILBOX_CAP_MAX);
const _: () = assert!(SAMPLE_ONE_IN.is_power_of_two());
const _: () = assert!(KILL_WITHIN.as_millis() <= STOP_WITHIN.as_millis());
const _: () = assert!(BACKOFF_FIRST.as_millis() <= BACKOFF_MAX.as_millis());
