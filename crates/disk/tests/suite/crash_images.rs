//! The enumeration of power losses makes every image it promises, and none that cannot be.

use kula_disk::{Access, Disk, SimDisk, sim::CrashImages};
use std::collections::BTreeSet;

fn contents(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(name, Access::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// All states of `name` after the last operation; the mark asks for all of them, not only those new with it.
fn last_states(disk: &SimDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    disk.mark(1 + disk.operations() as u64);
    let journal = disk.journal();
    let images = CrashImages::of(&journal, 7).filter(|image| image.operations() == journal.operations());
    images.map(|image| contents(&image.disk(), name)).collect()
}

fn synced(names: &[&str]) -> SimDisk {
    let disk = SimDisk::recording(1);
    for name in names {
        let file = disk.create(name).unwrap();
        file.write_at(&[b'.'; 8], 0).unwrap();
        file.sync_data().unwrap();
    }
    disk.sync_dir("").unwrap();
    disk
}

#[test]
fn every_subset_of_a_few_unsynced_changes_is_made() {
    let disk = synced(&["a"]);
    let file = disk.open("a", Access::ReadWrite).unwrap();
    for (index, byte) in b"0123".iter().enumerate() {
        file.write_at(&[*byte], index as u64).unwrap();
    }
    let states = last_states(&disk, "a");
    let expected: BTreeSet<_> = (0..16_u8)
        .map(|bits| {
            let byte = |index: u8| if bits >> index & 1 == 1 { b'0' + index } else { b'.' };
            Some((0..8).map(|index| if index < 4 { byte(index) } else { b'.' }).collect())
        })
        .collect();
    assert_eq!(states, expected);
}

#[test]
fn a_write_tears_at_sector_and_page_edges_with_old_zero_or_garbage_rest() {
    let disk = synced(&["a"]);
    let file = disk.open("a", Access::ReadWrite).unwrap();
    file.write_at(&vec![b'O'; 12_000], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&vec![b'N'; 10_000], 100).unwrap();
    let states: Vec<_> = last_states(&disk, "a").into_iter().flatten().collect();
    for cut in [512, 4096, 8192, 9728] {
        let rest_is = |byte: Option<u8>| {
            states.iter().any(|state| {
                let (new, rest) = (&state[100..cut], &state[cut..10_100]);
                new.iter().all(|byte| *byte == b'N')
                    && byte.map_or(rest[..300].iter().collect::<BTreeSet<_>>().len() > 50, |byte| {
                        rest.iter().all(|found| *found == byte)
                    })
            })
        };
        assert!(rest_is(Some(b'O')) && rest_is(Some(0)) && rest_is(None), "cut at {cut}");
    }
    assert!(states.iter().any(|state| state[100..8192].iter().all(|byte| *byte == b'O') && state[8192] == b'N'));
    assert!(states.iter().all(|state| state.len() == 12_000 && state[..100] == [b'O'; 100] && state[10_100] == b'O'));
}

#[test]
fn names_lengths_and_bytes_survive_apart() {
    let disk = synced(&["a"]);
    let file = disk.create("t").unwrap();
    file.write_at(b"new", 0).unwrap();
    disk.rename("t", "a").unwrap();
    let states = last_states(&disk, "a");
    for state in [&b"........"[..], b"", b"new", b"\0\0\0"] {
        assert!(states.contains(&Some(state.to_vec())), "{:?} is missing", String::from_utf8_lossy(state));
    }
    file.sync_data().unwrap();
    assert_eq!(last_states(&disk, "a"), [Some(b"........".to_vec()), Some(b"new".to_vec())].into());
    disk.sync_dir("").unwrap();
    assert_eq!(last_states(&disk, "a"), [Some(b"new".to_vec())].into());
    assert_eq!(last_states(&disk, "t"), [None].into());
}

#[test]
fn an_acknowledgement_without_a_sync_meets_an_image_without_its_bytes() {
    let disk = synced(&["a"]);
    let file = disk.open("a", Access::ReadWrite).unwrap();
    file.write_at(b"1", 0).unwrap();
    disk.mark(1);
    let lost =
        |image: kula_disk::sim::CrashImage| image.mark() == 1 && contents(&image.disk(), "a").unwrap()[0] == b'.';
    assert!(CrashImages::of(&disk.journal(), 1).distinct().any(lost));
    file.sync_data().unwrap();
    disk.mark(2);
    let lost =
        |image: kula_disk::sim::CrashImage| image.mark() == 2 && contents(&image.disk(), "a").unwrap()[0] == b'.';
    assert!(!CrashImages::of(&disk.journal(), 1).distinct().any(lost));
}

#[test]
fn what_was_synced_before_is_in_every_image_and_marks_say_when() {
    let disk = synced(&["a"]);
    let file = disk.open("a", Access::ReadWrite).unwrap();
    let mut durable_at = vec![(disk.operations(), b'.')];
    for value in b'1'..=b'9' {
        file.write_at(&[value; 8], 0).unwrap();
        file.sync_data().unwrap();
        disk.mark(u64::from(value - b'0'));
        durable_at.push((disk.operations(), value));
    }
    for image in CrashImages::of(&disk.journal(), 1) {
        let Some((_, least)) = durable_at.iter().rev().find(|(at, _)| *at <= image.operations()) else { continue };
        let bytes = contents(&image.disk(), "a").unwrap();
        // The last byte is the last to be torn away: what shows an older value there was synced later than promised.
        assert!(bytes.iter().any(|byte| byte >= least || *byte == 0), "{image}: {bytes:?}");
        assert_eq!(image.mark(), u64::from(least.saturating_sub(b'0')).min(9) * u64::from(*least != b'.'), "{image}");
    }
}

#[test]
fn the_same_journal_and_seed_give_the_same_images_and_distinct_ones_differ() {
    let disk = synced(&["a", "b"]);
    for round in 0..3 {
        let file = disk.open("b", Access::ReadWrite).unwrap();
        file.write_at(&[round; 3000], u64::from(round) * 1000).unwrap();
        disk.create(&format!("n{round}")).unwrap();
    }
    let journal = disk.journal();
    let keys = |seed: u64| CrashImages::of(&journal, seed).map(|image| image.key()).collect::<Vec<_>>();
    assert_eq!(keys(5), keys(5));
    let distinct: Vec<u64> = CrashImages::of(&journal, 5).distinct().map(|image| image.key()).collect();
    assert_eq!(distinct.iter().collect::<BTreeSet<_>>().len(), distinct.len());
    assert_eq!(distinct.iter().collect::<BTreeSet<_>>(), keys(5).iter().collect::<BTreeSet<_>>());
    for image in CrashImages::of(&journal, 5).take(200) {
        assert_eq!(image.hash(), image.disk().hash(), "{image}");
    }
}

#[test]
fn a_thinned_enumeration_keeps_none_and_all() {
    let disk = synced(&["a"]);
    let file = disk.open("a", Access::ReadWrite).unwrap();
    (0..30).for_each(|index| file.write_at(&[b'x'; 600], index * 600).unwrap());
    let images: Vec<_> = CrashImages::of(&disk.journal(), 5).per_moment(4).collect();
    assert!(images.len() <= 4 * (disk.operations() + 1));
    let all = contents(&disk, "a");
    assert!(images.iter().any(|image| contents(&image.disk(), "a") == all));
}

#[test]
fn recovery_from_an_image_can_be_crashed_in_turn() {
    let disk = synced(&["a"]);
    let image = CrashImages::of(&disk.journal(), 1).last().unwrap();
    let recovered = image.disk();
    recovered.open("a", Access::ReadWrite).unwrap().write_at(b"2", 0).unwrap();
    let states = last_states(&recovered, "a");
    assert_eq!(states, [Some(b"........".to_vec()), Some(b"2.......".to_vec())].into());
    let salts: BTreeSet<u64> = [&disk, &recovered].into_iter().map(|disk| disk.salt().unwrap()).collect();
    assert!(!salts.is_empty());
}
