//! To whom links are kept.

mod actor;

pub(crate) use actor::{Admit, Dial, DirectoryActor, Found};
