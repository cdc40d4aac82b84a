//! Positions as byte strings whose plain byte order is the table's order, and the short separators between them.
//!
//! A position is: the token's eight ordered bytes; the partition key with each 00 written 00 FF, and a 00 after it;
//! then nothing (the partition's header) or 01 and the clustering key (a row). What follows a key's closing 00 is never
//! FF, so a key sorts before its own extensions, and a header before its rows.
//!
//! A *separator* of two blocks is the shortest byte string above everything in the left one and not above anything in
//! the right one. Tokens being spread out, it is two to four bytes where partitions meet.

use kula_types::{ClusteringKey, PartitionKey, Token};
use std::ops::Bound;

/// Appends the position of a partition's header, the first thing in it.
pub(super) fn put_partition(out: &mut Vec<u8>, token: Token, key: &[u8]) {
    out.extend_from_slice(&token.to_ordered_bytes());
    for part in key.split_inclusive(|byte| *byte == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(0xff);
        }
    }
    out.push(0);
}

/// Makes a partition's position that of one of its rows.
pub(super) fn put_row(out: &mut Vec<u8>, clustering: &[u8]) {
    out.push(1);
    out.extend_from_slice(clustering);
}

/// The lowest position a slice of rows of one partition can hold, for seeking; `partition` is the header's position.
pub(super) fn put_slice_start(out: &mut Vec<u8>, partition: &[u8], from: &Bound<ClusteringKey>) {
    out.clear();
    out.extend_from_slice(partition);
    match from {
        Bound::Included(key) | Bound::Excluded(key) => put_row(out, key.as_bytes()),
        Bound::Unbounded => {}
    }
}

/// The lowest position a scan from here can hold, or one that no entry has. `None`: from the table's beginning.
pub(super) fn scan_start(from: &Bound<(Token, PartitionKey)>) -> Option<Vec<u8>> {
    let (Bound::Included((token, key)) | Bound::Excluded((token, key))) = from else { return None };
    let mut position = Vec::with_capacity(key.as_bytes().len() + 10);
    put_partition(&mut position, *token, key.as_bytes());
    if matches!(from, Bound::Excluded(_)) {
        // Above all rows of the partition, which have 01 here, and below every other partition above.
        position.push(2);
    }
    Some(position)
}

/// The shortest prefix of `first` that is above `before`.
pub(super) fn separator<'a>(before: &[u8], first: &'a [u8]) -> &'a [u8] {
    assert!(before < first, "positions are added in ascending order");
    let shared = before.iter().zip(first).take_while(|(a, b)| a == b).count();
    &first[..=shared]
}

/// The lowest token of any position at or above `separator`.
pub(super) fn lowest_token(separator: &[u8]) -> Token {
    Token::from_ordered_bytes(padded_token(separator))
}

/// The highest token of any position below `separator`.
pub(super) fn highest_token_below(separator: &[u8]) -> Token {
    let token = lowest_token(separator);
    // Longer than a token: positions of that very token may lie below it. Else only lower tokens do.
    if separator.len() > 8 { token } else { Token(token.0.saturating_sub(1)) }
}

fn padded_token(separator: &[u8]) -> [u8; 8] {
    let mut token = [0; 8];
    for (to, from) in token.iter_mut().zip(separator) {
        *to = *from;
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    type Place = (i64, Vec<u8>, Option<Vec<u8>>);

    fn position((token, key, clustering): &Place) -> Vec<u8> {
        let mut out = Vec::new();
        put_partition(&mut out, Token(*token), key);
        if let Some(clustering) = clustering {
            put_row(&mut out, clustering);
        }
        out
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..4)
    }

    fn place() -> impl Strategy<Value = Place> {
        (prop_oneof![any::<i64>(), -2i64..2], bytes(), proptest::option::of(bytes()))
    }

    proptest! {
        #[test]
        fn byte_order_is_table_order(a in place(), b in place()) {
            prop_assert_eq!(position(&a).cmp(&position(&b)), a.cmp(&b));
        }

        #[test]
        fn a_separator_separates_and_bounds_tokens(a in place(), b in place()) {
            prop_assume!(a != b);
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            let (before, first) = (position(&low), position(&high));
            let separator = separator(&before, &first);
            prop_assert!(before.as_slice() < separator && separator <= first.as_slice());
            prop_assert!(lowest_token(separator) <= Token(high.0));
            prop_assert!(highest_token_below(separator) >= Token(low.0));
        }
    }
}
