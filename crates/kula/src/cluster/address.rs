//! Node `i` of a development cluster listens on its own loopback address: base + `i`.

use std::net::Ipv4Addr;

/// The base without a word: nodes on 127.0.0.1, .2, .3.
pub const BASE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 0);

/// base + `number`, carried over the dots; `None` beyond 127.255.255.254.
pub fn of(base: Ipv4Addr, number: u32) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from_bits(base.to_bits().checked_add(number)?);
    (address.is_loopback() && address != Ipv4Addr::new(127, 255, 255, 255)).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_carries_over_the_dots_and_ends_with_loopback() {
        let sum = |base: [u8; 4], number| of(base.into(), number).map(|address| address.octets());
        assert_eq!(sum([127, 0, 0, 0], 1), Some([127, 0, 0, 1]));
        assert_eq!(sum([127, 0, 0, 254], 2), Some([127, 0, 1, 0]));
        assert_eq!(sum([127, 0, 255, 255], 1), Some([127, 1, 0, 0]));
        assert_eq!(sum([127, 255, 255, 250], 4), Some([127, 255, 255, 254]));
        assert_eq!(sum([127, 255, 255, 250], 5), None, "the broadcast address");
        assert_eq!(sum([127, 255, 255, 250], 6), None, "128.0.0.0 is another network");
        assert_eq!(sum([255, 255, 255, 255], 1), None);
        assert_eq!(sum([10, 0, 0, 0], 1), None, "other machines reach it");
    }
}
