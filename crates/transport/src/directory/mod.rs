//! To whom links are kept.

mod actor;
mod lead;

pub(crate) use actor::{Admit, Dial, DirectoryActor, Found};
pub use lead::{Lead, Rearranged, is_another_name};
