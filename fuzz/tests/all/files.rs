//! Files of a simulated disk, whole.

use bytes::Bytes;
use kula_disk::{Access, Disk, SimDisk};

pub fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    disk.create(name).unwrap().write_at(bytes, 0).unwrap();
}

pub fn get(disk: &SimDisk, name: &str) -> Bytes {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Bytes::from(bytes)
}
