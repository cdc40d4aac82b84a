//! The stored form of a ring, kept apart from the value in memory: this is what `docs/format/ring.md` describes, and
//! the only place where the secrets of a ring are written.
//!
//! Unknown fields are refused rather than dropped: a ring that is only half understood must not be written back.

#![doc = include_str!("../../../docs/format/ring.md")]

use crate::{
    Datacentre, KeyspaceSettings, Partitioner, Ring, RingContextKey, RingFacts, RingNode, RingValueError, Secret,
};
use kula_types::{ClusterId, Name, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A ring as it is stored. Holds secrets in the clear and therefore prints nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingForm {
    version: u64,
    cluster: ClusterId,
    name: String,
    partitioner: Partitioner,
    partitions: u32,
    rf_balanced: u32,
    nodes: Vec<RingNode>,
    datacentres: Vec<DatacentreForm>,
    keyspaces: BTreeMap<Name, KeyspaceSettings>,
    context_keys: Vec<ContextKeyForm>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatacentreForm {
    name: String,
    owners: Vec<u16>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextKeyForm {
    id: u32,
    /// 64 hexadecimal digits.
    secret: String,
    /// Microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retired: Option<i64>,
}

/// Why a stored form is no ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingFormError {
    #[error(transparent)]
    Value(#[from] RingValueError),
    #[error("a context key is not 64 hexadecimal digits")]
    Secret,
    #[error("a context key's retirement is not a timestamp")]
    Retired,
}

impl From<&Ring> for RingForm {
    fn from(ring: &Ring) -> RingForm {
        let facts = ring.facts().clone();
        let key = |key: RingContextKey| ContextKeyForm {
            id: key.id,
            secret: key.secret.expose().iter().map(|byte| format!("{byte:02x}")).collect(),
            retired: key.retired.map(Timestamp::micros),
        };
        RingForm {
            version: facts.version,
            cluster: facts.cluster,
            name: facts.name,
            partitioner: facts.partitioner,
            partitions: facts.partitions,
            rf_balanced: facts.rf_balanced,
            nodes: facts.nodes,
            datacentres: facts
                .datacentres
                .into_iter()
                .map(|dc| DatacentreForm { name: dc.name, owners: dc.owners })
                .collect(),
            keyspaces: facts.keyspaces,
            context_keys: facts.context_keys.into_iter().map(key).collect(),
        }
    }
}

impl TryFrom<RingForm> for Ring {
    type Error = RingFormError;

    fn try_from(form: RingForm) -> Result<Ring, RingFormError> {
        let context_keys = form.context_keys.into_iter().map(context_key).collect::<Result<_, _>>()?;
        let datacentre = |dc: DatacentreForm| Datacentre { name: dc.name, owners: dc.owners };
        Ok(Ring::new(RingFacts {
            version: form.version,
            cluster: form.cluster,
            name: form.name,
            partitioner: form.partitioner,
            partitions: form.partitions,
            rf_balanced: form.rf_balanced,
            nodes: form.nodes,
            datacentres: form.datacentres.into_iter().map(datacentre).collect(),
            keyspaces: form.keyspaces,
            context_keys,
        })?)
    }
}

fn context_key(form: ContextKeyForm) -> Result<RingContextKey, RingFormError> {
    let retired = form.retired.map(Timestamp::from_micros).transpose().map_err(|_| RingFormError::Retired)?;
    Ok(RingContextKey { id: form.id, secret: secret(&form.secret)?, retired })
}

fn secret(hex: &str) -> Result<Secret, RingFormError> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return Err(RingFormError::Secret);
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(Secret::new(bytes))
}

fn digit(ascii: u8) -> Result<u8, RingFormError> {
    match ascii {
        b'0'..=b'9' => Ok(ascii - b'0'),
        b'a'..=b'f' => Ok(ascii - b'a' + 10),
        _ => Err(RingFormError::Secret),
    }
}
