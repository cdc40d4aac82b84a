//! What gossip counts.

use crate::{Membership, State};
use kula_actor::{Counter, Gauge, Registry};

#[derive(Clone)]
pub(crate) struct Metrics {
    members: [(State, Gauge); 4],
    pub probes_missed: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// Messages and news that were not believed.
    pub unsound: Counter,
    /// Nodes there was no room for.
    pub no_room: Counter,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let member = |state: State| {
            let help = "Nodes this node knows, itself among them, by their state";
            (state, registry.gauge("kula_gossip_members", help, &[("state", state.name())]))
        };
        let bytes = |direction| {
            let help = "Bytes of gossip's messages, probes not counted";
            registry.counter("kula_gossip_bytes", help, &[("direction", direction)])
        };
        let refused = |why| {
            let help = "What peers said and gossip did not take, by reason";
            registry.counter("kula_gossip_refused", help, &[("why", why)])
        };
        let missed = "Probes that nobody answered, neither to this node nor to its helpers";
        Metrics {
            members: State::ALL.map(member),
            probes_missed: registry.counter("kula_gossip_probes_missed", missed, &[]),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            unsound: refused("unsound"),
            no_room: refused("no_room"),
        }
    }

    pub fn show(&self, membership: &Membership) {
        for (state, gauge) in &self.members {
            let count = membership.nodes.values().filter(|view| view.state == *state).count();
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
