//! What a replica's answer, or its absence, means for a hint. Every refusal has its line.

use crate::step::Outcome;
use bytes::Bytes;
use kula_transport::TransportError;
use kula_wire::{
    decode,
    verbs::replica::{Answer, Refused, Served},
};

/// Of `replica::Apply`. What is *unknown* is sent again: apply is a join.
pub fn of_answer(answer: Result<Bytes, TransportError>) -> Outcome {
    match answer {
        Ok(body) => match decode::<Answer>(&body) {
            Ok(Ok(Served::Applied)) => Outcome::Applied,
            Ok(Ok(_)) | Err(_) => Outcome::NotNow("its answer cannot be understood"),
            Ok(Err(refused)) => of_refusal(&refused),
        },
        Err(error) => of_failure(&error),
    }
}

fn of_refusal(refused: &Refused) -> Outcome {
    match refused {
        Refused::StaleRing { .. } => Outcome::NotNow("it has a newer ring"),
        Refused::Behind => Outcome::NotNow("it has an older ring"),
        Refused::Overloaded { .. } => Outcome::NotNow("it is overloaded"),
        Refused::Expired => Outcome::NotNow("it was too slow"),
        Refused::DiskFull { .. } => Outcome::NotNow("its disk is full"),
        Refused::Closed => Outcome::NotNow("it is stopping"),
        Refused::Fenced => Outcome::NotNow("it is fenced"),
        Refused::UnknownTable { .. } => Outcome::NotThis("it does not know the table"),
        Refused::Damaged => Outcome::NotThis("the range is damaged there"),
        // Neither is asked of a hint.
        Refused::ClockAhead { .. } => Outcome::NotThis("its clock is behind"),
        Refused::SiblingCap { .. } => Outcome::NotThis("too many siblings"),
        Refused::TooLarge { .. } => Outcome::Never("too large for its log"),
        Refused::InvalidMutation => Outcome::Never("not a mutation"),
        Refused::Misplaced => Outcome::Never("its token is not its key's"),
    }
}

fn of_failure(error: &TransportError) -> Outcome {
    match error {
        TransportError::NotConnected => Outcome::NotNow("there is no connection"),
        TransportError::Overloaded { .. } => Outcome::NotNow("its link is overloaded"),
        TransportError::Expired => Outcome::NotNow("it was too slow"),
        TransportError::UnknownVerb { .. } => Outcome::NotNow("it is of another version"),
        TransportError::TimedOut => Outcome::NotNow("it did not answer"),
        TransportError::Lost => Outcome::NotNow("its answer was lost"),
        TransportError::Malformed => Outcome::NotNow("its answer cannot be understood"),
        TransportError::TooLarge { .. } => Outcome::Never("too large for a frame"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_types::TableId;
    use kula_wire::encode;

    fn refusal(refused: Refused) -> Outcome {
        of_answer(Ok(encode::<Answer>(&Err(refused)).unwrap()))
    }

    #[test]
    fn only_an_acknowledgement_is_one_and_only_what_no_retry_cures_is_given_up() {
        assert_eq!(of_answer(Ok(encode::<Answer>(&Ok(Served::Applied)).unwrap())), Outcome::Applied);
        for refused in [Refused::InvalidMutation, Refused::Misplaced, Refused::TooLarge { bytes: 2, max: 1 }] {
            assert!(matches!(refusal(refused), Outcome::Never(_)));
        }
        assert!(matches!(refusal(Refused::UnknownTable { table: TableId([1; 16]) }), Outcome::NotThis(_)));
        for refused in
            [Refused::StaleRing { have: 3 }, Refused::Behind, Refused::DiskFull { wrote: true }, Refused::Fenced]
        {
            assert!(matches!(refusal(refused), Outcome::NotNow(_)));
        }
        for error in [TransportError::Lost, TransportError::TimedOut, TransportError::UnknownVerb { verb: 1 }] {
            assert!(matches!(of_answer(Err(error)), Outcome::NotNow(_)));
        }
        let other = Ok(Served::Digest { digest: 1, seal: 0 });
        assert!(matches!(of_answer(Ok(encode::<Answer>(&other).unwrap())), Outcome::NotNow(_)));
        assert!(matches!(of_answer(Ok(Bytes::from_static(b"\xff\xff"))), Outcome::NotNow(_)));
    }
}
