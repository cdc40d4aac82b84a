//! What is in a log's directory: found, made sure of, and put in order, when the log is opened.

use super::{
    LogConfig, LogError,
    format::{RECORDS_AT, SegmentHeader},
    reader::{SegmentReader, find_end},
    replay::{Segment, read_header, segment_name},
};
use crate::{
    Access, Disk,
    name::{inside, parent_of},
};

pub(super) fn spare_name(dir: &str, number: u64) -> String {
    inside(dir, &format!("{number:020}.spare"))
}

/// A number that we would have written just so, with as many still to come.
fn is_ours(id: u64, name: &str) -> bool {
    id <= u64::MAX / 2 && segment_name("", id) == name
}

/// Reads the directory. Of the newest segment, the only one whose last bytes were perhaps never synced, the bytes are
/// made durable first and then read past the page cache: what is found is what the disk holds. Answers the segments,
/// ascending.
pub(super) fn find(disk: &dyn Disk, dir: &str, config: &LogConfig) -> Result<Vec<Segment>, LogError> {
    if !disk.exists(dir).map_err(LogError::Disk)? {
        disk.create_dir(dir).map_err(LogError::Disk)?;
    }
    disk.sync_dir(parent_of(dir)).map_err(LogError::Disk)?;
    disk.sync_dir(dir).map_err(LogError::Disk)?;
    let (mut ids, mut spares) = (Vec::new(), Vec::new());
    for name in disk.list(dir).map_err(LogError::Disk)? {
        match name.rsplit_once('.') {
            Some((number, "log")) => ids.extend(number.parse().ok().filter(|id| is_ours(*id, &name))),
            Some((_, "spare")) => spares.push(inside(dir, &name)),
            _ => {}
        }
    }
    let segments = find_segments(disk, dir, config, &ids)?;
    remove_spares(disk, &spares)?;
    Ok(segments)
}

fn find_segments(disk: &dyn Disk, dir: &str, config: &LogConfig, ids: &[u64]) -> Result<Vec<Segment>, LogError> {
    let mut segments: Vec<Segment> = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        let is_newest = index + 1 == ids.len();
        let name = segment_name(dir, *id);
        if is_newest {
            let file = disk.open(&name, Access::ReadWrite).map_err(LogError::Disk)?;
            file.sync_data().map_err(LogError::Disk)?;
        }
        let access = if is_newest { Access::ReadUncached } else { Access::Read };
        let file = disk.open(&name, access).map_err(LogError::Disk)?;
        let file_bytes = file.len().map_err(LogError::Disk)?;
        let header = read_header(&*file, *id)?;
        if let Some(header) = header.filter(|header| header.kind != config.kind) {
            return Err(LogError::WrongKind { segment: *id, found: header.kind, wanted: config.kind });
        }
        segments.push(Segment { id: *id, header, end: None, file_bytes });
    }
    for index in 0..segments.len() {
        segments[index].end = match &segments[index].header {
            Some(header) => Some(end_of(disk, dir, &segments[index], header, segments.get(index + 1))?),
            None => None,
        };
    }
    Ok(segments)
}

/// Where a segment's records end: the next one's header says, or its own records do.
fn end_of(
    disk: &dyn Disk,
    dir: &str,
    segment: &Segment,
    header: &SegmentHeader,
    next: Option<&Segment>,
) -> Result<u32, LogError> {
    let told = next.and_then(|next| next.header).map(|header| header.previous);
    if let Some(told) = told.filter(|told| told.segment == segment.id && told.offset >= RECORDS_AT) {
        return Ok(told.offset);
    }
    // A segment gets its full length before its name. If it is shorter now, nobody can say what was cut off.
    if segment.file_bytes < u64::from(header.segment_bytes) {
        return Ok(header.segment_bytes);
    }
    let access = if next.is_none() { Access::ReadUncached } else { Access::Read };
    let file = disk.open(&segment_name(dir, segment.id), access).map_err(LogError::Disk)?;
    let mut reader = SegmentReader::new(file, header, header.segment_bytes).map_err(LogError::Disk)?;
    find_end(&mut reader).map_err(LogError::Disk)
}

/// A spare that is found is not trusted: if its sync failed, readers see a length and bytes that the disk never got.
fn remove_spares(disk: &dyn Disk, names: &[String]) -> Result<(), LogError> {
    names.iter().try_for_each(|name| disk.unlink(name)).map_err(LogError::Disk)
}
