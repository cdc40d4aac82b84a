//! Who listens on a port: the kernel's tables, read as a person would with `ss -ltnp`.

use super::process::read;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

/// Whether `address` is taken.
pub fn is_taken(address: SocketAddr) -> bool {
    // Rust binds with SO_REUSEADDR: connections that linger do not count, listeners do.
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// The process that listens on `address`, where this user may see it.
pub fn listener(address: SocketAddr) -> Option<i32> {
    let inodes: Vec<u64> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| read(Path::new(&format!("/proc/net/{table}"))).ok())
        .flat_map(|text| listening(&text, address))
        .collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let pids = names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok());
    pids.into_iter().find(|pid| {
        let descriptors = format!("/proc/{pid}/fd");
        names(&descriptors).iter().any(|name| {
            let target = std::fs::read_link(format!("{descriptors}/{name}"));
            target.is_ok_and(|target| links.iter().any(|link| Path::new(link) == target))
        })
    })
}

/// `process 4711 (nginx)`.
pub fn describe(pid: i32) -> String {
    let name = read(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_default();
    format!("process {pid} ({})", name.trim_end())
}

#[allow(clippy::disallowed_methods, reason = "/proc, not the database's files")]
fn names(directory: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The inodes of the sockets in a table of `/proc/net` that listen on `address` or on every address.
fn listening(table: &str, address: SocketAddr) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (host, port) = fields.get(1)?.split_once(':')?;
        let is_port = u16::from_str_radix(port, 16).ok()? == address.port();
        let everywhere = host.bytes().all(|digit| digit == b'0');
        // The kernel prints the address as a number of the machine's own byte order.
        let here = u32::from_str_radix(host, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
        let is_host = everywhere || here.is_some_and(|here| address.ip() == here);
        (is_port && is_host && fields.get(3) == Some(&LISTEN)).then(|| fields.get(9)?.parse().ok())?
    };
    table.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(is_taken(address));
        assert_eq!(listener(address), Some(i32::try_from(std::process::id()).unwrap()));
        drop(taken);
        assert!(!is_taken(address));
        assert_eq!(listener(address), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn only_listeners_on_this_address_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1BA8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n\
             1: 0200007F:1BA8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0\n\
             2: 0100007F:1BA8 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0\n\
             3: 00000000:1BA8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 14 1 0 100 0 0 10 0\n\
             4: 0100007F:1B58 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15 1 0 100 0 0 10 0\n\
             5: garbage\n";
        assert_eq!(listening(table, "127.0.0.1:7080".parse().unwrap()), [11, 14]);
    }
}
