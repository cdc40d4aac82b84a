//! `kula ring`: the ring drawn as a strip, from the lowest token to the highest, where its end meets its beginning.
//!
//! Each partition is one character: its first owner's mark. The other copies stand on the next nodes clockwise. Below it
//! each node's share as a bar.

use super::{Look, list, share, text};
use crate::print;
use serde_json::Value;

/// Marks of nodes, by their names' order; nodes beyond share the last one.
const MARKS: &[u8; 35] = b"123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const MANY: char = '*';
/// Backgrounds of the 256-colour palette on which black is legible; neighbours differ.
const PAINTS: [u8; 12] = [114, 75, 215, 176, 80, 222, 109, 168, 149, 117, 180, 146];
/// Characters of a share's bar.
const BAR: usize = 20;
/// Characters before the strip.
const INDENT: usize = 2;

pub fn page(ring: &Value, look: Look) -> String {
    let head = format!(
        "ring {} of cluster {}: {} partitions, {}",
        ring["version"],
        text(&ring["cluster"]),
        ring["partitions"],
        text(&ring["partitioner"])
    );
    let nodes = list(&ring["nodes"]);
    if nodes.is_empty() {
        return format!("{head}\nnobody owns anything yet: kula status says what this node waits for");
    }
    let ranks = ranks(nodes);
    let mut page = head;
    let datacentres = list(&ring["datacentres"]);
    for datacentre in datacentres {
        let owners: Vec<usize> = list(&datacentre["owners"])
            .iter()
            .filter_map(|owner| ranks.get(usize::try_from(owner.as_u64()?).ok()?).copied())
            .collect();
        if owners.is_empty() {
            continue;
        }
        page.push_str("\n\n");
        if datacentres.len() > 1 {
            page.push_str(&format!("{}\n", text(&datacentre["name"])));
        }
        page.push_str(&strip(&owners, look));
    }
    page.push_str("\n\n");
    let mut sorted: Vec<(usize, &Value)> = ranks.into_iter().zip(nodes).collect();
    sorted.sort_by_key(|(rank, _)| *rank);
    let sorted: Vec<&Value> = sorted.into_iter().map(|(_, node)| node).collect();
    page.push_str(&legend(&sorted, look));
    page
}

/// Each node's place when they are sorted as people count them: n2 before n10.
fn ranks(nodes: &[Value]) -> Vec<usize> {
    let name = |place: usize| nodes[place]["name"].as_str().unwrap_or_default();
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&place| (name(place).len(), name(place)));
    let mut ranks = vec![0; nodes.len()];
    for (rank, place) in order.into_iter().enumerate() {
        ranks[place] = rank;
    }
    ranks
}

fn mark(node: usize) -> char {
    MARKS.get(node).map_or(MANY, |&mark| char::from(mark))
}

fn painted(node: usize, look: Look) -> String {
    let style = format!("30;48;5;{}", PAINTS[node % PAINTS.len()]);
    print::painted(&mark(node).to_string(), &style, look.colour)
}

/// Partitions in token order, as many a line as fit: a power of two, so that lines are equal parts of the ring.
fn strip(owners: &[usize], look: Look) -> String {
    let room = look.width.saturating_sub(INDENT).clamp(8, 64);
    let mut length = owners.len();
    while length > room {
        length = length.div_ceil(2);
    }
    let line = |line: &[usize]| {
        let marks: String = line.iter().map(|&owner| painted(owner, look)).collect();
        format!("{:INDENT$}{marks}", "")
    };
    owners.chunks(length.max(1)).map(line).collect::<Vec<_>>().join("\n")
}

fn legend(nodes: &[&Value], look: Look) -> String {
    let largest = nodes.iter().filter_map(|node| node["owns"].as_f64()).fold(0.0, f64::max);
    let row = |(place, node): (usize, &&Value)| {
        let owns = node["owns"].as_f64().unwrap_or(0.0);
        vec![
            mark(place).to_string(),
            text(&node["name"]),
            node["state"].as_str().unwrap_or("-").to_string(),
            text(&node["dc"]),
            text(&node["rack"]),
            share(&node["owns"]),
            bar(if largest > 0.0 { owns / largest } else { 0.0 }),
            node["weight"].to_string(),
            node["partitions"].to_string(),
            text(&node["address"]),
        ]
    };
    let mut headers = vec!["", "NODE", "STATE", "DC", "RACK", "OWNS", "SHARE", "WEIGHT", "PARTITIONS", "ADDRESS"];
    let mut rows: Vec<Vec<String>> = nodes.iter().enumerate().map(row).collect();
    // A narrow terminal loses columns, those first that `kula status` shows as well or better.
    for name in ["RACK", "DC", "SHARE", "ADDRESS", "WEIGHT"] {
        let is_wide = print::table(&headers, rows.clone()).lines().any(|line| line.chars().count() > look.width);
        if let Some(column) = headers.iter().position(|header| *header == name).filter(|_| is_wide) {
            headers.remove(column);
            for row in &mut rows {
                row.remove(column);
            }
        }
    }
    let table = print::table(&headers, rows);
    let mut lines = table.lines();
    let mut legend = lines.next().unwrap_or_default().to_string();
    for (place, line) in lines.enumerate() {
        // The mark is the line's first character, and ASCII; painted after the columns were measured.
        let rest = line.strip_prefix(mark(place)).unwrap_or(line);
        legend.push_str(&format!("\n{}{rest}", painted(place, look)));
    }
    legend
}

/// `████████▌`, at most `BAR` characters for 1.0.
fn bar(part: f64) -> String {
    let eighths = (0..=BAR * 8).take_while(|&eighth| part_of(eighth) <= part + 1e-9).last().unwrap_or(0);
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied());
    bar
}

/// The part of a whole bar that so many eighths of a character are.
fn part_of(eighths: usize) -> f64 {
    u32::try_from(eighths).map_or(1.0, f64::from) / u32::try_from(BAR * 8).map_or(1.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ring(count: usize, partitions: usize) -> Value {
        let owners: Vec<usize> = (0..partitions).map(|partition| (partition * 7 + partition / 5) % count).collect();
        let node = |place: usize| {
            let owned = owners.iter().filter(|&&owner| owner == place).count();
            let owns = part_of(owned) / part_of(partitions);
            json!({
                "name": format!("n{}", place + 1), "dc": "dc1", "rack": "rack1", "weight": 1, "owns": owns,
                "partitions": owned, "state": if place == 1 { "down" } else { "up" },
                "address": format!("127.0.0.{}:7000", place + 1),
            })
        };
        json!({
            "version": 1, "cluster": "kula", "partitions": partitions, "partitioner": "murmur3", "rf_balanced": 3,
            "nodes": (0..count).map(node).collect::<Vec<_>>(), "datacentres": [{ "name": "dc1", "owners": owners }],
        })
    }

    #[test]
    fn three_nodes_and_their_partitions_are_drawn() {
        insta::assert_snapshot!(page(&ring(3, 256), Look { colour: false, width: 100 }));
    }

    #[test]
    fn marks_follow_the_names_and_the_strip_follows_the_marks() {
        let node = |name: &str| json!({ "name": name, "owns": 0.5, "partitions": 4, "weight": 1 });
        let ring = json!({
            "version": 1, "partitions": 8, "nodes": [node("n10"), node("n2")],
            "datacentres": [{ "name": "dc1", "owners": [0, 1, 0, 1, 1, 1, 0, 0] }],
        });
        let drawn = page(&ring, Look { colour: false, width: 100 });
        assert!(drawn.contains("\n  21211122\n"), "{drawn}");
        assert!(drawn.contains("\n1  n2 ") && drawn.contains("\n2  n10"), "{drawn}");
    }

    #[test]
    fn a_narrow_terminal_loses_columns_not_nodes() {
        let drawn = page(&ring(20, 64), Look { colour: false, width: 50 });
        assert!(drawn.lines().all(|line| line.chars().count() <= 50), "{drawn}");
        insta::assert_snapshot!(drawn);
    }

    #[test]
    fn colour_changes_no_character() {
        let plain = page(&ring(3, 16), Look { colour: false, width: 100 });
        let coloured = page(&ring(3, 16), Look { colour: true, width: 100 });
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            stripped.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        stripped.push_str(rest);
        assert_ne!(coloured, plain);
        assert_eq!(stripped, plain);
    }

    #[test]
    fn a_node_without_a_ring_says_what_to_ask() {
        let none = json!({ "version": 0, "cluster": "kula", "partitions": 256, "partitioner": "murmur3", "nodes": [] });
        assert!(page(&none, Look { colour: false, width: 80 }).contains("kula status"));
    }

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        assert_eq!([0.0, 0.5, 1.0, 2.0].map(|part| bar(part).chars().count()), [0, 10, 20, 20]);
        assert_eq!(bar(0.025), "▌");
    }
}
