//! What people ask for (`kula sim`) costs what the levels allow, and no more.

use kula_placement::ReadRepair;
use kula_sim::{
    account::Account,
    run_told,
    scenario::{Scenario, Trouble, Workload},
    time::SECOND,
};
use kula_types::Consistency;

fn account(level: Consistency, workload: Workload, troubles: &[Trouble], seed: u64) -> Account {
    let scenario = Scenario {
        nodes: 3,
        rf: 3,
        lasts: 20 * SECOND,
        clients: 4,
        rate: 10,
        keys: 4,
        workloads: vec![workload],
        read: vec![level],
        write: vec![level],
        read_repair: ReadRepair::Blocking,
        synced_every: None,
        troubles: troubles.to_vec(),
        fault_every: 3 * SECOND,
        within: 5 * SECOND,
        seed,
    };
    let plan = scenario.plan().unwrap_or_else(|error| panic!("{error}"));
    let (report, told) = run_told(&plan, false);
    Account::of(&plan, &report, &told)
}

fn all(level: Consistency, workload: Workload, troubles: &[Trouble], seeds: u64) -> Account {
    let mut all = Account::default();
    (1..=seeds).for_each(|seed| all.add(account(level, workload, troubles, seed)));
    assert_eq!(all.violations, []);
    all
}

// Promise: P2, P3
#[test]
fn a_quorum_loses_nothing_and_reads_nothing_stale_while_no_disk_is_lost() {
    let troubles = [Trouble::Kill, Trouble::PowerLoss, Trouble::Pause, Trouble::Partition, Trouble::SlowNet];
    for workload in [Workload::Register, Workload::Set, Workload::Bucket] {
        let all = all(Consistency::Quorum, workload, &troubles, 7);
        assert_eq!(all.losses(), (0, 0), "{workload:?}: {:?} {:?}", all.lost, all.outranked);
        let reads = &all.reads["quorum"];
        assert!(reads.answered > 100 && all.writes["quorum"].answered > 100, "{all:?}");
        assert_eq!(reads.ages, [0; 0], "{workload:?}");
    }
}

#[test]
fn one_acknowledgement_loses_what_a_cut_off_disk_had_and_says_whose() {
    let all = all(Consistency::One, Workload::Set, &[Trouble::Partition, Trouble::LostDisk], 8);
    assert!(all.losses().0 > 0, "no seed lost anything: {all:?}");
    assert_eq!(all.losses().1, 0);
    for lost in &all.lost {
        let taken = lost.holders.iter().all(|(_, took)| took.is_some_and(|(fault, _)| fault == "lost disk"));
        assert!(taken && !lost.holders.is_empty(), "{lost:?}");
    }
}

#[test]
fn one_reads_what_is_old_while_nodes_are_cut_off() {
    let all = all(Consistency::One, Workload::Register, &[Trouble::Partition], 4);
    let reads = &all.reads["one"];
    assert!(!reads.ages.is_empty() && (reads.ages.len() as u64) < reads.answered / 2, "{all:?}");
}

#[test]
fn bad_clocks_hide_later_writes_of_registers_and_none_of_a_bucket() {
    let registers = all(Consistency::Quorum, Workload::Register, &[Trouble::Clock], 3);
    assert!(registers.losses().0 == 0 && registers.losses().1 > 0, "{registers:?}");
    let bucket = all(Consistency::Quorum, Workload::Bucket, &[Trouble::Clock], 3);
    assert_eq!(bucket.losses(), (0, 0));
    assert!(bucket.siblings.most > 1 && bucket.siblings.keys_with_in_the_end <= bucket.siblings.keys_with);
}

#[test]
fn one_scenario_and_seed_make_one_account() {
    let once = || account(Consistency::One, Workload::Bucket, &[Trouble::All], 5);
    assert_eq!(once(), once());
}
