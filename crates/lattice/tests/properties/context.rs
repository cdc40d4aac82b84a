//! Context tokens: what was sealed is opened, only here, only by this cluster, and never by accident.

use bytes::Bytes;
use kula_lattice::{Context, ContextError, ContextKey, limits::CONTEXT_TEXT_BYTES_MAX};
use kula_testkit::{lattice, property};
use kula_types::{Actor, Dot, Key, PartitionKey, TableId, Timestamp};
use proptest::{collection::vec, prelude::*, sample::Index};

const TABLE: TableId = TableId([1; 16]);
const OURS: ContextKey = ContextKey { id: 7, secret: [42; 32] };
const OLDER: ContextKey = ContextKey { id: 6, secret: [41; 32] };

fn key(bytes: &[u8]) -> PartitionKey {
    PartitionKey(Bytes::copy_from_slice(bytes))
}

fn open(text: &str) -> Result<Context, ContextError> {
    Context::open(text, TABLE, &key(b"cart"), &[OURS, OLDER])
}

proptest! {
    #![proptest_config(property())]

    #[test]
    fn a_context_opens_as_it_was_sealed(context in lattice::context(), old in any::<bool>()) {
        let with = if old { OLDER } else { OURS };
        let text = context.seal(TABLE, &key(b"cart"), &with);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        prop_assert_eq!(open(&text), Ok(context));
    }

    #[test]
    fn a_context_of_another_place_is_misplaced(context in lattice::context()) {
        let other_key = context.seal(TABLE, &key(b"cart2"), &OURS);
        let other_table = context.seal(TableId([2; 16]), &key(b"cart"), &OURS);
        prop_assert_eq!(open(&other_key), Err(ContextError::Misplaced));
        prop_assert_eq!(open(&other_table), Err(ContextError::Misplaced));
    }

    #[test]
    fn any_changed_character_is_noticed(context in lattice::context(), at in any::<Index>(), to in 0usize..64) {
        let text = context.seal(TABLE, &key(b"cart"), &OURS);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut changed = text.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = alphabet[to];
        let changed = String::from_utf8(changed).expect("ASCII");
        if changed != text {
            let opened = open(&changed);
            prop_assert!(
                matches!(opened, Err(ContextError::Forged | ContextError::Malformed | ContextError::UnknownKey { .. })),
                "{:?}", opened
            );
        }
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(open(&text).is_err());
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        prop_assert!(open(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
    }
}

#[test]
fn a_stranger_cannot_make_a_context() {
    let context = Context { dots: vec![], lww: Some(Key::delete_at(Timestamp::MIN)) };
    let stranger = ContextKey { id: OURS.id, secret: [43; 32] };
    assert_eq!(open(&context.seal(TABLE, &key(b"cart"), &stranger)), Err(ContextError::Forged));
    let unknown = ContextKey { id: 9, ..OURS };
    assert_eq!(open(&context.seal(TABLE, &key(b"cart"), &unknown)), Err(ContextError::UnknownKey { id: 9 }));
    assert_eq!(open(""), Err(ContextError::Malformed));
    assert_eq!(open(&"A".repeat(CONTEXT_TEXT_BYTES_MAX + 1)), Err(ContextError::Malformed));
    assert!(!format!("{OURS:?}").contains("42"), "secrets are not printed");
}

/// 64 siblings of 64 coordinators always fit; thousands of stubs after them are left out from the end.
#[test]
fn what_does_not_fit_is_left_out_from_the_end() {
    let far = |actor: u64, seq: u64| (Dot::new(Actor(actor << 40), 1, (1 << 39) + seq).expect("a dot"), seq);
    let siblings: Vec<_> = (1..=64).map(|actor| far(actor, 5)).collect();
    let stubs: Vec<_> = (1000..4000).map(|actor| far(actor, 9)).collect();
    let lww = Some(Key::of(Timestamp::MAX, siblings[0].0));
    let dots = [siblings.clone(), stubs].concat();
    let text = Context { dots: dots.clone(), lww }.seal(TABLE, &key(b"cart"), &OURS);
    assert!((CONTEXT_TEXT_BYTES_MAX - 64..=CONTEXT_TEXT_BYTES_MAX).contains(&text.len()), "{} bytes", text.len());
    let opened = open(&text).expect("our own");
    assert_eq!(opened.lww, lww);
    assert!(opened.dots.len() > 64);
    assert_eq!(opened.dots, dots[..opened.dots.len()]);
    let only_siblings = Context { dots: siblings.clone(), lww }.seal(TABLE, &key(b"cart"), &OURS);
    assert_eq!(open(&only_siblings).map(|context| context.dots), Ok(siblings));
}

#[test]
fn golden_text_of_a_context() {
    let dot = |seq| Dot::new(Actor(0x0102_0304_0506_0708), 0, seq).expect("a dot");
    let context = Context { dots: vec![(dot(300), 298), (dot(7), 3)], lww: None };
    let text = context.seal(TABLE, &key(b"cart"), &OURS);
    assert_eq!(text, "AQcAAABYoB3JCEUfhNFu8wq8Z5IKAAEIBwYFBAMCAQQHBKUCAsSZ6Z8U2RokkGPcSn9VHfg");
}
