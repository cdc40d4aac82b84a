//! The eight properties of `cell.md`, each for the real code, and the Python models of the causality spike with their
//! figures.

#[cfg(test)]
mod blind_writes;
#[cfg(test)]
mod causal;
#[cfg(test)]
mod cell_model;
#[cfg(test)]
mod chained_dots;
#[cfg(test)]
mod codec;
#[cfg(test)]
mod confluence;
#[cfg(test)]
mod context;
#[cfg(test)]
mod delta;
#[cfg(test)]
mod digest;
#[cfg(test)]
mod extent;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod serial;
