//! The timestamps of an import into an LWW table: each record's is the import's beginning and its number in microseconds.
//!
//! So a record that is put twice is the same write, and of two with the same key the later in the file wins, however late an
//! answer, a retry or a hint comes and whichever node took it. If the nodes stamped the records, their clocks would decide:
//! one that has just been restarted stamps up to 5 s ahead (its lease), and what is put through it would win over what
//! another takes later.
//!
//! The beginning is this machine's clock, if the node's agrees; else the node's, which it tells in whole seconds.

use kula_clock::{Clock, SystemClock};

const SECOND: i64 = 1_000_000;

/// Microseconds since 1970: now, as far as a node that answered with this `Date` agrees.
pub fn now(date: Option<&str>) -> i64 {
    agreed(SystemClock::new().wall().micros(), date.and_then(seconds_of))
}

/// The timestamp of a record.
pub fn of(begun: i64, number: u64) -> i64 {
    begun.saturating_add(i64::try_from(number).unwrap_or(i64::MAX))
}

/// `seconds` is up to a second behind the node's clock when it was told, and that was a moment ago.
fn agreed(wall: i64, seconds: Option<i64>) -> i64 {
    let Some(node) = seconds.and_then(|seconds| seconds.checked_mul(SECOND)) else { return wall };
    if wall > node + 2 * SECOND { node + SECOND } else { wall.max(node) }
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
fn seconds_of(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = date.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?;
    let mut clock = time.split(':').map(|part| part.parse::<i64>().ok().filter(|part| (0..=60).contains(part)));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    // Years that begin in March, so that the day that comes every four years is the last one.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 306 + 5) / 10 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        let known = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Sat, 21 Nov 2026 17:03:01 GMT", Some(1_795_280_581)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("", None),
        ];
        for (date, seconds) in known {
            assert_eq!(seconds_of(date), seconds, "{date}");
        }
    }

    #[test]
    fn a_clock_that_a_node_does_not_share_is_not_followed() {
        let node = Some(1_000);
        assert_eq!(agreed(1_000_700_000, node), 1_000_700_000, "within the second that was told");
        assert_eq!(agreed(1_001_900_000, node), 1_001_900_000, "a slow answer");
        assert_eq!(agreed(990_000_000, node), 1_000_000_000, "behind");
        assert_eq!(agreed(1_060_000_000, node), 1_001_000_000, "ahead");
        assert_eq!(agreed(7, None), 7);
        assert_eq!(of(5, 2), 7);
    }
}
