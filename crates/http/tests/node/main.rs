//! The front door before a real node: what a client sees on the wire.

#[cfg(test)]
mod client;
#[cfg(test)]
mod data;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod health;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod stack;
