//! Lists inside a message, as a field's `#[serde(deserialize_with = "crate::list::grown")]`.
//!
//! serde's own `Vec` reserves up to a mebibyte for what a list claims to hold, so six bytes of a peer cost a mebibyte. This
//! one grows by the elements that are there.

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

struct Grown<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Grown<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(list)
    }
}

pub fn grown<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(Grown(PhantomData))
}
