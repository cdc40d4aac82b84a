//! The furniture as its users see it: real actix actors under real supervisors, one test binary.
//!
//! Local trees run on a paused clock, so a backoff of seconds takes none; trees across arbiters run on the real one.

#[cfg(test)]
mod delivery;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod fencing;
#[cfg(test)]
mod house;
#[cfg(test)]
mod nursery;
#[cfg(test)]
mod observing;
#[cfg(test)]
mod restarting;
#[cfg(test)]
mod stopping;
