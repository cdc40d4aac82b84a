//! Another node asks this one how things look from there, over a real socket.

use crate::{client::Client, stack::Node};
use kula_actor::{Backoff, Intensity, Place, Registry, Reply, Strategy, Supervisor};
use kula_clock::{Clock, Hlc, SystemClock, Told};
use kula_net::{Net, OsNet};
use kula_transport::{Admission, LinkState, Myself, Peers, TransportError};
use kula_types::{Life, NodeId};
use kula_wire::{
    Lane,
    verbs::status::{AskView, NodeView, Stage},
};
use std::{sync::Arc, time::Duration};

/// A node that only speaks.
async fn stranger(clock: Arc<dyn Clock>) -> (Peers, Supervisor) {
    let listener = OsNet.listen("127.0.0.1:0").await.unwrap();
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let me = Myself {
        cluster_name: "test".into(),
        node: serde_json::from_str("\"6f1d1f2e-0000-4000-8000-000000000002\"").unwrap(),
        life: Life(1),
        boot: 2,
        name: "n2".into(),
        address: listener.address().unwrap(),
        lease_found: None,
    };
    let spawn = kula_transport::Spawn {
        me,
        admission: Admission::default(),
        net: Arc::new(OsNet),
        listener,
        clock,
        told: Arc::new(Told::new(None, false)),
        hlc: Arc::new(Hlc::starting_above(None)),
        roll: Arc::new(|| 0.5),
        places: vec![Place::Local],
        log: log.clone(),
    };
    let (peers, children) = kula_transport::spawn(spawn, &Registry::new());
    let mut tree = Supervisor::new("peer", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
    children.into_iter().for_each(|child| tree.add(child));
    (peers, tree)
}

/// Who is at the address, once there is a connection.
async fn met(peers: &Peers, address: &str) -> NodeId {
    peers.dial(address);
    for _ in 0..500 {
        let up = peers.known().into_iter().find(|peer| matches!(peer.link, LinkState::Up { .. }));
        if let Some(node) = up.and_then(|peer| peer.node) {
            return node;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no connection: {:?}", peers.known());
}

#[test]
fn a_peer_that_asks_is_told_this_nodes_view_and_garbage_is_not_answered() {
    let node = Node::start();
    let id = Client::to(node.address).ask("GET", "/v1/status", &[], b"").json()["nodes"][0]["id"].clone();
    actix_rt::System::new().block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (peers, tree) = stranger(Arc::clone(&clock)).await;
        let talk = async {
            let met = met(&peers, &node.peer_address).await;
            assert_eq!(serde_json::json!(met), id);
            let deadline = clock.mono().after(Duration::from_secs(2));
            // More at once than views are made.
            let asked: Vec<_> = (0..20)
                .map(|_| {
                    let (reply, answer) = Reply::pair();
                    peers.ask(met, &AskView, deadline, reply);
                    answer
                })
                .collect();
            for answer in asked {
                let view: NodeView = answer.await.unwrap().unwrap();
                assert!(view.is_sound() && view.name == "n1" && view.stage == Stage::Ready, "{view:?}");
                assert_eq!((view.node, view.ring_version, view.load_bytes.is_some()), (met, 1, true));
            }
            let (reply, answer) = Reply::pair();
            peers.request(met, Lane::Request, 0x0701, vec![1, 2, 3].into(), deadline, reply);
            assert_eq!(answer.await.unwrap(), Err(TransportError::Lost));
        };
        tree.run(talk).await.unwrap();
    });
}
