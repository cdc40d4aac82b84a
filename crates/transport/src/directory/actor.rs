//! The directory: to whom links are kept. Members have one; so has an address that was dialled, until it turns out to be
//! a member's other name, or this node itself.

use super::{Lead, Rearranged, is_another_name};
use crate::{
    admission::Admission,
    limits,
    link::{self, LinkActor},
    messages::{LinkState, PeerState},
    shared::Shared,
};
use actix::prelude::{Actor, Handler};
use kula_actor::{Door, KulaContext, Message};
use kula_types::{Map, NodeId};
use slog::warn;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Who belongs, from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Admit(pub Arc<Admission>);

/// Somebody may be there.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Dial(pub String);

/// A link learned who is at its address.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct FoundAt {
    address: String,
    found: Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Node(NodeId),
    Ourselves,
}

impl Found {
    pub fn at(self, address: &str) -> FoundAt {
        FoundAt { address: address.to_owned(), found: self }
    }
}

pub(crate) struct DirectoryActor {
    pub shared: Arc<Shared>,
    /// By address.
    pub links: BTreeMap<String, Entry>,
    /// Addresses that lead back here.
    pub mirrors: BTreeSet<String>,
    pub next_place: usize,
}

pub(crate) struct Entry {
    door: Door<LinkActor>,
    lead: Lead,
}

impl DirectoryActor {
    pub fn new(shared: Arc<Shared>) -> Self {
        DirectoryActor { shared, links: BTreeMap::new(), mirrors: BTreeSet::new(), next_place: 0 }
    }

    fn admit(&mut self, admission: &Admission) {
        let Rearranged { gone, wanted } = admission.rearranges(self.shared.me.node, self.leads());
        gone.iter().for_each(|address| self.close(address));
        for (address, (node, name)) in wanted {
            match self.links.get_mut(address) {
                Some(entry) => entry.lead = Lead::to(Some(node)),
                None => self.open(address, name, Some(node)),
            }
        }
        self.publish();
    }

    fn leads(&self) -> impl Iterator<Item = (&String, Lead)> {
        self.links.iter().map(|(address, entry)| (address, entry.lead))
    }

    fn open(&mut self, address: &str, label: &str, member: Option<NodeId>) {
        if self.links.len() >= limits::PEERS_MAX {
            warn!(self.shared.log, "too many peers"; "event" => "peer_refused", "address" => address, "cap" => limits::PEERS_MAX);
            return;
        }
        let place = self.shared.place(self.next_place);
        self.next_place += 1;
        let (door, spec) = link::spec(&self.shared, label, address, member, place);
        let name = label.to_owned();
        let state = PeerState { address: address.to_owned(), node: member, name, link: LinkState::Connecting };
        self.shared.board().insert(address.to_owned(), state);
        if let Err(error) = self.shared.nursery.start(spec) {
            warn!(self.shared.log, "cannot keep a link"; "event" => "peer_refused", "address" => address, "why" => %error);
            self.shared.board().remove(address);
            return;
        }
        self.links.insert(address.to_owned(), Entry { door, lead: Lead::to(member) });
    }

    fn close(&mut self, address: &str) {
        if let Some(entry) = self.links.remove(address) {
            self.shared.nursery.stop(entry.door.path());
            self.shared.board().remove(address);
        }
    }

    fn found(&mut self, address: &str, found: Found) {
        let Found::Node(node) = found else {
            self.mirrors.insert(address.to_owned());
            self.close(address);
            return self.publish();
        };
        if is_another_name(address, node, self.leads()) {
            self.close(address);
        } else if let Some(entry) = self.links.get_mut(address) {
            entry.lead.node = Some(node);
        }
        self.publish();
    }

    /// A member's own link wins over one that was dialled.
    fn publish(&self) {
        let mut routes: Map<NodeId, Door<LinkActor>> = Map::default();
        let mut entries: Vec<&Entry> = self.links.values().collect();
        entries.sort_by_key(|entry| entry.lead.member);
        for entry in entries {
            routes.extend(entry.lead.node.map(|node| (node, entry.door.clone())));
        }
        self.shared.routes.store(Arc::new(routes));
    }
}

/// A restart begins with no links, so those of the last life must go first.
impl Drop for DirectoryActor {
    fn drop(&mut self) {
        self.links.values().for_each(|entry| self.shared.nursery.stop(entry.door.path()));
    }
}

impl Actor for DirectoryActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let admission = self.shared.admission.load();
        self.admit(&admission);
    }
}

kula_actor::supervised!(DirectoryActor);

impl Handler<Admit> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, admit: Admit, _: &mut Self::Context) {
        self.shared.admission.store(Arc::clone(&admit.0));
        self.admit(&admit.0);
    }
}

impl Handler<Dial> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, dial: Dial, _: &mut Self::Context) {
        let address = dial.0;
        if address != self.shared.me.address && !self.links.contains_key(&address) && !self.mirrors.contains(&address) {
            self.open(&address, &address, None);
        }
    }
}

impl Handler<FoundAt> for DirectoryActor {
    type Result = ();

    fn handle(&mut self, found: FoundAt, _: &mut Self::Context) {
        self.found(&found.address, found.found);
    }
}
