//! Gossip over real connections: loopback, the real transport, a tree a node.

#[cfg(test)]
mod house;
#[cfg(test)]
mod living;
