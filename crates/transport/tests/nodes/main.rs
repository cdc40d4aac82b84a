//! Real nodes over loopback, as their rooms see them.

#[cfg(test)]
mod asking;
#[cfg(test)]
mod house;
#[cfg(test)]
mod refusing;
