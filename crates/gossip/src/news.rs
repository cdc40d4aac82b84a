//! What gossip tells people, and in what words.

use crate::{Membership, metrics::Metrics};
use kula_types::NodeId;
use slog::{Logger, debug, info, warn};
use std::time::Duration;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// `away`: how long it was not heard; `None`: it is new here.
    Up {
        node: NodeId,
        away: Option<Duration>,
    },
    /// Another process of a node that was known.
    Anew {
        node: NodeId,
    },
    Slow {
        node: NodeId,
    },
    /// Its probe was missed, ours and that of so many helpers.
    Suspected {
        node: NodeId,
        helpers: usize,
    },
    Down {
        node: NodeId,
        sources: Vec<NodeId>,
        silent: Duration,
    },
    Left {
        node: NodeId,
    },
    /// It answered rumours of its death by itself.
    RefutedByPeer {
        node: NodeId,
    },
    /// So did we.
    Refuted {
        by: NodeId,
        refutation: u64,
    },
    CutOff {
        heard: usize,
        of: usize,
    },
    CutOffEnded {
        heard: usize,
        of: usize,
    },
    /// Peers remember a process of ours with a higher number.
    Raised {
        above: u64,
    },
    /// And they do again: it lives.
    Twin {
        above: u64,
    },
    /// An older node that said the same address, or one that was down for long.
    Forgotten {
        name: String,
        node: NodeId,
    },
    /// A peer sent what nobody may believe.
    Unsound {
        from: NodeId,
        of: NodeId,
        why: String,
    },
}

impl News {
    pub(crate) fn count(&self, metrics: &Metrics) {
        if let News::Unsound { .. } = self {
            metrics.unsound.inc();
        }
    }

    /// The line for people. Level and node are the drain's.
    pub fn sentence(&self, name: &dyn Fn(NodeId) -> String) -> String {
        match self {
            News::Up { node, away: None } => format!("{} is up", name(*node)),
            News::Up { node, away: Some(away) } => format!("{} is up again after {}", name(*node), seconds(*away)),
            News::Anew { node } => format!("{} is up, started anew", name(*node)),
            News::Slow { node } => format!("{} answers late", name(*node)),
            News::Suspected { node, helpers: 0 } => {
                format!("{} does not answer, and there is nobody to ask about it", name(*node))
            }
            News::Suspected { node, helpers: 1 } => format!("{} does not answer, nor one other", name(*node)),
            News::Suspected { node, helpers } => format!("{} does not answer, nor {helpers} others", name(*node)),
            News::Down { node, sources, silent } => {
                let sources: Vec<String> = sources.iter().map(|source| name(*source)).collect();
                format!("{} is down: silent for {}, lost by {}", name(*node), seconds(*silent), sources.join(" and "))
            }
            News::Left { node } => format!("{} left, as it said", name(*node)),
            News::RefutedByPeer { node } => format!("{} says that it is alive", name(*node)),
            News::Refuted { by, .. } => format!("{} thought this node dead: it is not", name(*by)),
            News::CutOff { heard, of } => {
                format!("cut off: hears {heard} of {of}, itself among them, and declares nobody down")
            }
            News::CutOffEnded { heard, of } => format!("no longer cut off: hears {heard} of {of}"),
            News::Raised { .. } => {
                "peers remember a later process of this node (its clock went back): going on above it".to_owned()
            }
            News::Twin { .. } => "another process speaks as this node: is its data directory a copy?".to_owned(),
            News::Forgotten { name, .. } => format!("{name} is forgotten"),
            News::Unsound { from, why, .. } => format!("news from {} were not believed: {why}", name(*from)),
        }
    }

    /// Writes the line. Names are those of `membership`.
    pub fn tell(&self, log: &Logger, membership: &Membership) {
        let name = |node: NodeId| membership.name_of(node);
        let line = self.sentence(&name);
        match self {
            News::Up { node, away } => {
                info!(log, "{line}"; "event" => "peer_up", "peer" => name(*node), "away_ms" => away.map(millis));
            }
            News::Anew { node } => info!(log, "{line}"; "event" => "peer_up", "peer" => name(*node)),
            News::Slow { node } => info!(log, "{line}"; "event" => "peer_slow", "peer" => name(*node)),
            News::Suspected { node, helpers } => {
                info!(log, "{line}"; "event" => "peer_suspected", "peer" => name(*node), "helpers" => helpers);
            }
            News::Down { node, sources, silent } => {
                let sources: Vec<String> = sources.iter().map(|source| name(*source)).collect();
                warn!(log, "{line}"; "event" => "peer_down", "peer" => name(*node), "sources" => sources.join(","),
                    "silent_ms" => millis(*silent));
            }
            News::Left { node } => info!(log, "{line}"; "event" => "peer_left", "peer" => name(*node)),
            News::RefutedByPeer { node } => debug!(log, "{line}"; "event" => "peer_refuted", "peer" => name(*node)),
            News::Refuted { by, refutation } => {
                info!(log, "{line}"; "event" => "refuted", "peer" => name(*by), "refutation" => refutation);
            }
            News::CutOff { heard, of } => warn!(log, "{line}"; "event" => "cut_off", "heard" => heard, "of" => of),
            News::CutOffEnded { heard, of } => {
                info!(log, "{line}"; "event" => "cut_off_ended", "heard" => heard, "of" => of);
            }
            News::Raised { above } => info!(log, "{line}"; "event" => "generation_raised", "above" => above),
            News::Twin { above } => warn!(log, "{line}"; "event" => "twin", "above" => above),
            News::Forgotten { name, node } => {
                info!(log, "{line}"; "event" => "peer_forgotten", "peer" => name, "node" => %node);
            }
            News::Unsound { from, of, why } => {
                warn!(log, "{line}"; "event" => "gossip_refused", "peer" => name(*from), "of" => name(*of), "why" => why);
            }
        }
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
