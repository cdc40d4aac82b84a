//! `Reply`: the one-shot way back for an answer, carried inside a message.
//!
//! Passing it along beats a future per hop: connection → coordinator → shard → connection costs one allocation.
//! A reply that is dropped unanswered says so (`Lost`): the work may or may not have happened, it is *unknown*.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// The answer will never come: the actor that held the reply restarted, stopped or shed it. Whether the work was done
/// is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was lost; whether the work was done is unknown")]
pub struct Lost;

type Receiver<T> = Box<dyn FnOnce(Result<T, Lost>) + Send>;

/// Answers once, from any thread. Dropping it answers `Lost`.
pub struct Reply<T> {
    receiver: Option<Receiver<T>>,
}

/// The other end of `Reply::pair`: a future of the answer.
pub struct Pending<T> {
    answer: oneshot::Receiver<T>,
}

impl<T: Send + 'static> Reply<T> {
    /// Calls `receiver` with the answer, on the answering thread: it must be short, and it must not panic.
    pub fn new(receiver: impl FnOnce(Result<T, Lost>) + Send + 'static) -> Self {
        Reply { receiver: Some(Box::new(receiver)) }
    }

    /// A reply and the future of its answer.
    pub fn pair() -> (Self, Pending<T>) {
        let (sender, answer) = oneshot::channel();
        let reply = Reply::new(move |result: Result<T, Lost>| {
            // On `Lost` the sender drops, and says the same.
            if let Ok(answer) = result {
                // The asker may have gone away; then nobody wants the answer.
                drop(sender.send(answer));
            }
        });
        (reply, Pending { answer })
    }

    /// A reply whose answer nobody waits for.
    pub fn ignored() -> Self {
        Reply::new(|_| ())
    }

    pub fn send(mut self, answer: T) {
        if let Some(receiver) = self.receiver.take() {
            receiver(Ok(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver(Err(Lost));
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|result| result.map_err(|_| Lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_dropped_reply_answers_lost_and_an_answered_one_answers_once() {
        let (sender, answers) = mpsc::channel();
        let sender2 = sender.clone();
        drop(Reply::<u8>::new(move |answer| sender.send(answer).unwrap()));
        Reply::new(move |answer| sender2.send(answer).unwrap()).send(7);
        assert_eq!(answers.iter().collect::<Vec<_>>(), [Err(Lost), Ok(7)]);
    }
}
