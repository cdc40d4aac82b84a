//! The actor furniture over actix: doors, supervisors, metering, the mailbox log.
//!
//! Every long-lived part of a node is an actix actor behind a `Door`: bounded, metered, stable across restarts. This
//! crate is the only one that touches actix's addresses and unbounded channels; everyone else sees a `Door`, which says
//! no when it is full. How messages are delivered and what is dropped when: `docs/mechanism/actors.md`.

mod child;
mod config;
mod context;
mod door;
mod histogram;
pub mod limits;
mod mailbox_log;
mod metrics;
mod nursery;
mod observer;
mod place;
mod registry;
mod reply;
mod report;
mod restart;
mod runner;
mod snapshot;
mod stats;
mod subscriber;
mod supervisor;

// With its derive, so that a room's messages.rs need not name actix.
pub use actix::Message;
pub use child::{ChildSpec, Escalation, OnPanic, child, child_once, child_passing};
pub use config::{ActorConfig, Intensity, MailboxCapError, MailboxConfig};
pub use context::KulaContext;
pub use door::{Ask, Door, DoorError, Refused};
pub use metrics::METRICS_CONTENT_TYPE;
pub use nursery::{Nursery, NurseryDoor, NurseryError};
pub use observer::{Observer, ObserverConfig};
pub use place::Place;
pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
pub use registry::Registry;
pub use reply::{Lost, Pending, Reply};
pub use report::{ActorReport, MailboxState, Wait};
pub use restart::{Backoff, Strategy};
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use subscriber::Subscriber;
pub use supervisor::Supervisor;
