//! Answers on their way out: handed over in pieces, and together within one budget of bytes (`promises.md` P24).
//!
//! A client that does not read keeps its answer alive. What it can keep is bounded: the library beneath copies a piece at
//! a time, the value itself is shared, and the large answers of a node together take no more than
//! `limits::ANSWERS_BYTES_MAX`; past it a request is told to come back. A permit lives as long as its body, and a peer
//! that stops reading is cut by the kernel (`server`), so permits come back.

use crate::limits;
use actix_web::{
    HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
};
use bytes::Bytes;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget's name, where a problem shows the full mailbox of an actor.
pub const PATH: &str = "http/answers";

/// Bytes that large answers may take, all workers together.
pub struct Answers {
    left: Arc<Semaphore>,
}

/// The answers on their way have used the budget.
#[derive(Debug)]
pub struct Full;

impl Answers {
    pub fn new() -> Self {
        Answers { left: Arc::new(Semaphore::new(limits::ANSWERS_BYTES_MAX as usize)) }
    }

    /// The same answer, in pieces and within the budget. One above the whole budget takes all of it.
    pub fn within(&self, response: HttpResponse) -> Result<HttpResponse, Full> {
        let (response, body) = response.into_parts();
        let rest = match body.try_into_bytes() {
            Ok(rest) => rest,
            Err(body) => return Ok(response.set_body(body)),
        };
        if rest.len() <= limits::ANSWER_PIECE_BYTES {
            return Ok(response.set_body(BoxBody::new(rest)));
        }
        let needed = u32::try_from(rest.len()).unwrap_or(u32::MAX).min(limits::ANSWERS_BYTES_MAX);
        let permit = self.left.clone().try_acquire_many_owned(needed).map_err(|_| Full)?;
        Ok(response.set_body(BoxBody::new(Pieces { rest, _permit: permit })))
    }
}

/// A large body, and its part of the budget until it is sent or dropped.
struct Pieces {
    rest: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.rest.len().min(limits::ANSWER_PIECE_BYTES);
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> HttpResponse {
        HttpResponse::Ok().body(Bytes::from(vec![7; bytes]))
    }

    #[test]
    fn a_large_answer_goes_out_in_pieces_of_the_value_itself() {
        let value = Bytes::from(vec![7; 3 * limits::ANSWER_PIECE_BYTES + 1]);
        let response = Answers::new().within(HttpResponse::Ok().body(value.clone())).unwrap();
        let mut body = response.into_body();
        assert_eq!(body.size(), BodySize::Sized(value.len() as u64));
        let mut context = Context::from_waker(futures::task::noop_waker_ref());
        let mut start = 0;
        while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut body).poll_next(&mut context) {
            assert!(piece.len() <= limits::ANSWER_PIECE_BYTES);
            assert_eq!(piece.as_ptr(), value[start..].as_ptr(), "copied");
            start += piece.len();
        }
        assert_eq!(start, value.len());
    }

    #[test]
    fn answers_past_the_budget_wait_for_those_before_them() {
        let answers = Answers::new();
        let budget = limits::ANSWERS_BYTES_MAX as usize;
        let first = answers.within(answer(budget + 1)).unwrap();
        assert!(answers.within(answer(limits::ANSWER_PIECE_BYTES + 1)).is_err());
        assert!(answers.within(answer(limits::ANSWER_PIECE_BYTES)).is_ok(), "small ones need no permit");
        drop(first);
        assert!(answers.within(answer(limits::ANSWER_PIECE_BYTES + 1)).is_ok());
    }
}
