//! What one node says of itself, each thing under a number of the node's own counting (Scuttlebutt, van Renesse 2008 §3).
//!
//! Safe to learn in any order and any number of times: a node is the only writer of what it says, so two sayings under one
//! number are one saying, and the later number wins: a join. A process that starts anew takes a higher *generation*,
//! which replaces whatever its predecessor said, however high that had counted.

use crate::limits;
use bytes::Bytes;
use kula_types::NodeId;
use kula_wire::verbs::{
    gossip::{About, Delta, Digest, Saying, Suspicion},
    link::Introduction,
};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbered<T> {
    number: u64,
    value: T,
}

/// Everything one node says, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub generation: u64,
    /// Everything that was said up to this number is here.
    pub version: u64,
    introduction: Numbered<Introduction>,
    about: Numbered<About>,
    heartbeat: Numbered<u64>,
    refutation: Numbered<u64>,
    /// 0: it did not say that it stops.
    leaving: u64,
    facts: BTreeMap<u16, Numbered<Bytes>>,
    suspicions: Numbered<Vec<Suspicion>>,
}

/// What a delta brought that was not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learned {
    /// A node, or a process of it, that was not known.
    pub process: bool,
    pub about: bool,
    pub refutation: bool,
    pub leaving: bool,
    pub facts: Vec<u16>,
    pub suspicions: bool,
}

/// Why a delta is not believed. Nothing was learned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsound {
    #[error("its numbers are out of order or out of bounds")]
    Numbers,
    #[error("a node's news must begin with who it is")]
    Nameless,
    #[error("it introduces another node, or one of another cluster, or one whose texts are out of bounds")]
    Introduction,
    #[error("a text, a fact or a list is longer than it may be")]
    TooLong,
}

impl Said {
    /// The first words of a process.
    pub fn new(generation: u64, introduction: Introduction, about: About) -> Self {
        Said {
            generation,
            version: 2,
            introduction: Numbered { number: 1, value: introduction },
            about: Numbered { number: 2, value: about },
            heartbeat: Numbered { number: 0, value: 0 },
            refutation: Numbered { number: 0, value: 0 },
            leaving: 0,
            facts: BTreeMap::new(),
            suspicions: Numbered { number: 0, value: Vec::new() },
        }
    }

    /// Says something more: only the node itself does.
    pub fn say(&mut self, saying: Saying) {
        self.version += 1;
        self.set(self.version, saying);
    }

    pub fn introduction(&self) -> &Introduction {
        &self.introduction.value
    }

    pub fn about(&self) -> &About {
        &self.about.value
    }

    pub fn heartbeat(&self) -> u64 {
        self.heartbeat.value
    }

    pub fn refutation(&self) -> u64 {
        self.refutation.value
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving > 0
    }

    pub fn fact(&self, key: u16) -> Option<&Bytes> {
        self.facts.get(&key).map(|fact| &fact.value)
    }

    pub fn facts(&self) -> impl Iterator<Item = (u16, &Bytes)> {
        self.facts.iter().map(|(key, fact)| (*key, &fact.value))
    }

    pub fn suspicions(&self) -> &[Suspicion] {
        &self.suspicions.value
    }

    pub fn digest(&self) -> Digest {
        Digest { node: self.introduction.value.node, generation: self.generation, version: self.version }
    }

    /// What was said above `base`.
    pub fn since(&self, base: u64) -> Delta {
        let mut news = vec![
            (self.introduction.number, Saying::Introduction(self.introduction.value.clone())),
            (self.about.number, Saying::About(self.about.value.clone())),
            (self.heartbeat.number, Saying::Heartbeat(self.heartbeat.value)),
            (self.refutation.number, Saying::Refutation(self.refutation.value)),
            (self.leaving, Saying::Leaving),
            (self.suspicions.number, Saying::Suspicions(self.suspicions.value.clone())),
        ];
        let fact = |(key, fact): (&u16, &Numbered<Bytes>)| {
            (fact.number, Saying::Fact { key: *key, value: fact.value.clone().into() })
        };
        news.extend(self.facts.iter().map(fact));
        news.retain(|(number, _)| *number > base);
        news.sort_by_key(|(number, _)| *number);
        let (node, generation) = (self.introduction.value.node, self.generation);
        Delta { node, generation, base, version: self.version, news }
    }

    /// The node that this delta is the first news of.
    pub fn first(delta: Delta) -> Result<Said, Unsound> {
        let (mut introduction, mut about) = (None, None);
        let (generation, version) = (delta.generation, delta.version);
        let mut rest = Vec::new();
        for (number, saying) in delta.news {
            match saying {
                Saying::Introduction(value) => introduction = Some(Numbered { number, value }),
                Saying::About(value) => about = Some(Numbered { number, value }),
                other => rest.push((number, other)),
            }
        }
        let (Some(introduction), Some(about), 0) = (introduction, about, delta.base) else {
            return Err(Unsound::Nameless);
        };
        let mut said = Said::new(generation, introduction.value.clone(), about.value.clone());
        (said.introduction, said.about, said.version) = (introduction, about, version);
        rest.into_iter().for_each(|(number, saying)| said.set(number, saying));
        Ok(said)
    }

    /// Joins what a delta of the same process says. A delta with a gap before it is not for us: it teaches nothing.
    pub fn join(&mut self, delta: Delta) -> Result<Learned, Unsound> {
        let mut learned = Learned::default();
        if delta.generation != self.generation || delta.base > self.version {
            return Ok(learned);
        }
        let more = delta.news.iter().filter(|(_, saying)| match saying {
            Saying::Fact { key, .. } => !self.facts.contains_key(key),
            _ => false,
        });
        if self.facts.len() + more.count() > limits::FACTS_MAX {
            return Err(Unsound::TooLong);
        }
        for (number, saying) in delta.news {
            // What was known already is no news, whatever the peer thought.
            if number > self.number_of(&saying) {
                learned.note(&saying, self);
                self.set(number, saying);
            }
        }
        self.version = self.version.max(delta.version);
        Ok(learned)
    }

    fn number_of(&self, saying: &Saying) -> u64 {
        match saying {
            Saying::Introduction(_) => self.introduction.number,
            Saying::About(_) => self.about.number,
            Saying::Heartbeat(_) => self.heartbeat.number,
            Saying::Refutation(_) => self.refutation.number,
            Saying::Leaving => self.leaving,
            Saying::Fact { key, .. } => self.facts.get(key).map_or(0, |fact| fact.number),
            Saying::Suspicions(_) => self.suspicions.number,
        }
    }

    fn set(&mut self, number: u64, saying: Saying) {
        match saying {
            Saying::Introduction(value) => self.introduction = Numbered { number, value },
            Saying::About(value) => self.about = Numbered { number, value },
            Saying::Heartbeat(value) => self.heartbeat = Numbered { number, value },
            Saying::Refutation(value) => self.refutation = Numbered { number, value },
            Saying::Leaving => self.leaving = number,
            Saying::Fact { key, value } => drop(self.facts.insert(key, Numbered { number, value: value.0 })),
            Saying::Suspicions(value) => self.suspicions = Numbered { number, value },
        }
    }
}

impl Learned {
    fn note(&mut self, saying: &Saying, known: &Said) {
        match saying {
            Saying::Introduction(_) => self.process = true,
            Saying::About(_) => self.about = true,
            Saying::Heartbeat(_) => {}
            Saying::Refutation(_) => self.refutation = true,
            Saying::Leaving => self.leaving = true,
            Saying::Fact { key, value } => {
                if known.fact(*key) != Some(&value.0) {
                    self.facts.push(*key);
                }
            }
            Saying::Suspicions(_) => self.suspicions = true,
        }
    }

    /// Everything that a node says from the first.
    pub fn all_of(said: &Said) -> Self {
        Learned {
            process: true,
            about: true,
            refutation: false,
            leaving: said.is_leaving(),
            facts: said.facts.keys().copied().collect(),
            suspicions: !said.suspicions.value.is_empty(),
        }
    }
}

/// Whether a peer's delta keeps the bounds that everybody keeps. `cluster` is our cluster's name.
pub(crate) fn check(delta: &Delta, cluster: &str) -> Result<(), Unsound> {
    let bounded = [(delta.generation, limits::GENERATION_MAX), (delta.version, limits::VERSION_MAX)];
    if bounded.iter().any(|(number, max)| number > max) || delta.base > delta.version {
        return Err(Unsound::Numbers);
    }
    let ascending = delta.news.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let within = delta.news.iter().all(|(number, _)| delta.base < *number && *number <= delta.version);
    if !ascending || !within {
        return Err(Unsound::Numbers);
    }
    let facts = delta.news.iter().filter(|(_, saying)| matches!(saying, Saying::Fact { .. }));
    if facts.count() > limits::FACTS_MAX {
        return Err(Unsound::TooLong);
    }
    delta.news.iter().try_for_each(|(_, saying)| check_saying(saying, delta.node, cluster))
}

fn check_saying(saying: &Saying, node: NodeId, cluster: &str) -> Result<(), Unsound> {
    let short = match saying {
        Saying::Introduction(it) if it.node == node && it.cluster_name == cluster && it.is_sound() => true,
        Saying::Introduction(_) => return Err(Unsound::Introduction),
        Saying::About(about) => {
            [&about.http_address, &about.dc, &about.rack].iter().all(|text| text.len() <= limits::PLACE_BYTES_MAX)
        }
        Saying::Heartbeat(_) | Saying::Refutation(_) | Saying::Leaving => true,
        Saying::Fact { value, .. } => value.0.len() <= limits::FACT_BYTES_MAX,
        Saying::Suspicions(list) => list.len() <= limits::SUSPICIONS_MAX,
    };
    if short { Ok(()) } else { Err(Unsound::TooLong) }
}
