//! Disks that are not what their machine left, one fault at a time, by hand: what each promises is met, and is not empty.

use kula_disk::sim::{Fault as DiskFault, SyncFault, Target};
use kula_sim::{
    Plan, Report,
    plan::{Fault, FaultKind, Operation, Rot, RotOf, Wish},
    run, run_told,
    time::{MILLISECOND, Micros, SECOND},
};
use kula_types::Consistency;

/// Three nodes whose clients work for a minute and a half; of the seed's own faults none.
fn plan(faults: Vec<Fault>) -> Plan {
    let fits = |plan: &Plan| plan.hosts.len() == 3 && plan.lasts > 100 * SECOND && plan.mailbox_max.is_none();
    let seed = (1..).find(|seed| fits(&Plan::of(*seed)));
    let mut plan = seed.map(Plan::of).unwrap_or_else(|| unreachable!("a third of all seeds is so"));
    plan.lasts = 90 * SECOND;
    // An acceptor whose disk goes back forgets its votes.
    plan.operations.retain(|operation| operation.at < plan.lasts && !matches!(operation.wish, Wish::Alter { .. }));
    plan.faults = faults;
    plan
}

fn fault(at: Micros, lasts: Micros, kind: FaultKind) -> Fault {
    Fault { at: at * SECOND, lasts: lasts * SECOND, kind }
}

fn holds(faults: Vec<Fault>, met: &[&'static str]) -> Report {
    let report = run(&plan(faults), false);
    assert!(report.violations.is_empty(), "{}", report.violations[0]);
    for what in met {
        assert!(report.trace.counts().contains_key(what), "{what} was not met: {:?}", report.trace.counts());
    }
    report
}

#[test]
fn a_disk_that_went_back_loses_what_came_since_and_nothing_else() {
    let back = fault(20, 40, FaultKind::RollBack { machine: 1 });
    holds(vec![back], &["rolled-back disk", "disks gone back", "writes acknowledged"]);
}

/// A node that is alone answers for itself; what two nodes have survives the disk of either.
#[test]
fn a_table_made_while_its_maker_was_alone_goes_with_its_disk_and_no_other_one_does() {
    let back = fault(10, 50, FaultKind::RollBack { machine: 1 });
    let alone = fault(20, 45, FaultKind::Isolate { machine: 1 });
    let makes = |machine: usize| {
        let (wish, level, within) = (Wish::CreateTable { causal: false }, Consistency::Quorum, 5 * SECOND);
        Operation { at: 40 * SECOND, client: 0, machine, wish, level, within, bytes: 10 }
    };
    let plan = Plan { operations: vec![makes(0), makes(1)], ..plan(vec![back, alone]) };
    let report = run(&plan, false);
    assert!(report.violations.is_empty(), "{}", report.violations[0]);
    let times = |what: &str| report.trace.counts().get(what).copied().unwrap_or_default();
    assert_eq!((times("tables made"), times("tables lost with their disks")), (2, 1));
}

/// The sync of what came last before all heals lied, and the disk says so when the sweep's own repairs are synced: what
/// it lost then is of keys that the sweep had already been over. Which sync is the one, the seed decides.
#[test]
fn what_a_disk_loses_in_the_middle_of_the_last_sweep_is_read_again() {
    let begun_anew = |calls_before: u64| {
        let back = fault(10, 50, FaultKind::RollBack { machine: 1 });
        let lie = DiskFault::Sync(SyncFault::Late);
        let lie = FaultKind::DiskError { machine: 1, target: Target::Sync, calls_before, fault: lie };
        let mut plan = plan(vec![back, fault(88, 60, lie)]);
        plan.operations.retain(|operation| match operation.wish {
            // The younger ones are swept first.
            Wish::Add { causal: false } => operation.at < 60 * SECOND,
            Wish::Add { causal: true } => operation.at > 66 * SECOND,
            _ => false,
        });
        let report = run(&plan, false);
        assert!(report.violations.is_empty(), "{calls_before} calls before: {}", report.violations[0]);
        report.trace.counts().get("sweeps begun anew").copied().unwrap_or_default()
    };
    assert!((0..8).map(begun_anew).sum::<u64>() > 0, "no lie was told as late as the sweep");
}

/// A hint is kept for a node that is slow and not away, so its delivery begins in the step that keeps it, and finds at
/// once that the disk never took it.
#[test]
fn a_hint_that_a_lying_disk_lost_in_the_step_that_kept_it_is_known_as_lost() {
    let slow = |from: usize| fault(20, 60, FaultKind::Slow { from, to: 1, by: 3 * SECOND / 2 });
    let mut plan = plan(vec![slow(0), slow(2)]);
    plan.operations.retain(|operation| {
        operation.level == Consistency::Quorum && matches!(operation.wish, Wish::Add { .. } | Wish::Put { .. })
    });
    let (report, told) = run_told(&plan, true);
    let line = report.trace.lines().iter().find(|line| line.contains("n3 keeps a hint for n2"));
    let line = line.unwrap_or_else(|| panic!("no hint is kept"));
    let since_start: Vec<Micros> =
        line.split_whitespace().next().into_iter().flat_map(|time| time.split('.')).flat_map(str::parse).collect();
    let [seconds, micros] = since_start[..] else { panic!("no time: {line}") };
    let at = seconds * SECOND + micros - told.base - 1;
    let lost = |calls_before: u64| {
        let lie = FaultKind::DiskError { machine: 2, target: Target::Write, calls_before, fault: DiskFault::LostWrite };
        // What was under way to it is lost too.
        let reset = FaultKind::Reset { one: 2, other: 1 };
        let faults =
            [Fault { at, lasts: SECOND, kind: lie }, Fault { at: at + MILLISECOND, lasts: SECOND, kind: reset }];
        let report = run(&Plan { faults: plan.faults.iter().cloned().chain(faults).collect(), ..plan.clone() }, false);
        assert!(report.violations.is_empty(), "{calls_before} calls before: {}", report.violations[0]);
        report.trace.counts().get("hints lost to the disk").copied().unwrap_or_default()
    };
    assert!((0..3).map(lost).sum::<u64>() > 0, "no hint was lost");
}

#[test]
fn a_node_at_anothers_address_is_refused_by_name_and_both_are_well_when_they_are_back() {
    let swap = fault(20, 30, FaultKind::Swap { one: 0, other: 2, survivors: 1 });
    holds(vec![swap], &["swapped disks", "refusal: AnotherNode"]);
}

#[test]
fn damaged_blocks_are_unknown_and_never_absent() {
    let rot = |die: u64| {
        let how = [Rot::Flip, Rot::Zeroes, Rot::Misdirected][usize::try_from(die % 3).unwrap_or(0)];
        fault(30 + die, 1, FaultKind::Rot { machine: 0, of: RotOf::Table, how, die })
    };
    let report = holds((0..40).map(rot).collect(), &["rotten table", "replica: Damaged"]);
    assert!(report.trace.counts()["reads answered"] > 0, "its peers answer");
}

#[test]
fn a_damaged_log_refuses_the_start_until_its_loss_is_accepted() {
    let rot =
        |die: u64| fault(10 + 8 * die, 2, FaultKind::Rot { machine: 2, of: RotOf::CommitLog, how: Rot::Zeroes, die });
    holds((0..9).map(rot).collect(), &["rotten log", "damaged logs refused", "start: storage LogDamaged"]);
}

#[test]
fn a_start_with_one_wrong_bit_in_a_file_that_it_needs_is_refused() {
    let rot =
        |die: u64| fault(10 + 5 * die, 2, FaultKind::Rot { machine: 1, of: RotOf::StartFile, how: Rot::Flip, die });
    let report = holds((0..14).map(rot).collect(), &["rotten start file", "damaged start files refused"]);
    assert_eq!(report.trace.counts()["rotten start file"], report.trace.counts()["damaged start files refused"]);
}
