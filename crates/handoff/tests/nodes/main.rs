//! Hand-off over loopback: the real transport, a simulated disk, a replica's room that answers as a test says.

#[cfg(test)]
mod house;
#[cfg(test)]
mod keeping;
#[cfg(test)]
mod returning;
