//! Reading a body within bounds: its size before it is held, its pace while it comes.

use crate::{limits, refusal::Refusal};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use kula_clock::Clock;
use std::time::Duration;

/// How much of a body is accepted, and what to say of more.
#[derive(Clone, Copy)]
pub struct Room {
    pub bytes_max: usize,
    pub past: fn(usize) -> Refusal,
}

/// The whole body. `announced` is its `Content-Length`; a body without one is cut off at the bound.
pub async fn read(
    payload: &mut Payload,
    announced: Option<u64>,
    room: Room,
    clock: &dyn Clock,
) -> Result<Bytes, Refusal> {
    let too_large = || (room.past)(room.bytes_max);
    if announced.is_some_and(|announced| announced > room.bytes_max as u64) {
        return Err(too_large());
    }
    let started = clock.mono();
    // Nearly every body is one chunk: it is passed on as it came, without a copy.
    let mut whole = Bytes::new();
    let mut gathered = BytesMut::new();
    let mut received = 0;
    loop {
        let spent = clock.mono().since(started);
        let patience = limits::BODY_GAP_MAX.min(limits::BODY_TIME_MAX.saturating_sub(spent));
        let next = tokio::time::timeout(patience, payload.next()).await.map_err(|_| Refusal::BodyTooSlow)?;
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|_| Refusal::BodyIncomplete)?;
        received += chunk.len();
        if received > room.bytes_max {
            return Err(too_large());
        }
        if received == chunk.len() {
            whole = chunk;
            continue;
        }
        if is_too_slow(received, clock.mono().since(started)) {
            return Err(Refusal::BodyTooSlow);
        }
        gathered.extend_from_slice(&std::mem::take(&mut whole));
        gathered.extend_from_slice(&chunk);
    }
    Ok(if gathered.is_empty() { whole } else { gathered.freeze() })
}

/// Reads the rest of a body that nobody wanted, so that the connection can carry the next request. False if there is
/// too much of it, or it does not come: then the connection must be closed.
pub async fn settle(payload: &mut Payload, announced: Option<u64>) -> bool {
    let mut left = limits::SETTLE_BYTES_MAX;
    match payload.next().now_or_never() {
        // Nearly always: there was none, or it was read.
        Some(None) => return true,
        Some(Some(Ok(chunk))) if chunk.len() <= left => left -= chunk.len(),
        Some(Some(_)) => return false,
        None => {}
    }
    if announced.is_some_and(|announced| announced > limits::SETTLE_BYTES_MAX as u64) {
        return false;
    }
    let rest = async {
        while let Some(chunk) = payload.next().await {
            match chunk.ok().and_then(|chunk| left.checked_sub(chunk.len())) {
                Some(less) => left = less,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(limits::SETTLE_TIME_MAX, rest).await.unwrap_or(false)
}

fn is_too_slow(received: usize, spent: Duration) -> bool {
    let seconds = usize::try_from(spent.as_secs()).unwrap_or(usize::MAX);
    spent > limits::BODY_GRACE && received < seconds.saturating_mul(limits::BODY_BYTES_PER_SECOND_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Promise: P24
    #[test]
    fn a_trickle_is_too_slow_once_the_grace_is_over() {
        assert!(!is_too_slow(1, Duration::from_secs(5)));
        assert!(is_too_slow(1, Duration::from_secs(6)));
        assert!(!is_too_slow(6 * 1024, Duration::from_secs(6)));
        assert!(is_too_slow(1 << 20, Duration::MAX));
    }
}
