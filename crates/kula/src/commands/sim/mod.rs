//! `kula sim`: whole clusters in this process, from seeds; `kula_sim` runs and counts, here is what is asked and printed.

mod error;
mod page;

use crate::{
    cli::{self, Global, Output, Repair, Sync},
    client::Failure,
    exit::Verdict,
    print, stopwatch,
};
use anyhow::Context;
use clap::ValueEnum;
use kula_sim::{account::Account, run_told, scenario::Scenario, time};
use kula_types::Consistency;
use page::{Page, word};
use std::{
    io::{ErrorKind, IsTerminal, Write},
    time::Duration,
};

/// Seeds of a drawn run are short enough to be typed.
const DRAWN_BELOW: u64 = 1_000_000;
/// Runs of one command: more is an evening, and `cargo xtask sim`.
const RUNS_MAX: u64 = 10_000;

pub use error::next;

pub fn run(sim: &cli::Sim, global: &Global) -> Result<Verdict, Failure> {
    if !(1..=RUNS_MAX).contains(&sim.runs) {
        return Err(Failure::Usage(format!("--runs takes 1 to {RUNS_MAX}, not {}", sim.runs)));
    }
    let seed = match sim.seed {
        Some(seed) => seed,
        None => drawn()?,
    };
    let scenario = scenario(sim, global, seed);
    let began = stopwatch::now();
    let account = account(sim, &scenario)?;
    let page = Page {
        scenario: &scenario,
        again: again(sim, global, seed),
        runs: sim.runs,
        account: &account,
        took: began.elapsed(),
        traced: sim.trace,
    };
    match if sim.json { Output::Json } else { global.output } {
        Output::Json => say(&page.json().to_string())?,
        Output::Human => say(&page.text(print::colour_of_stdout(global)))?,
    }
    Ok(page.verdict())
}

/// A story is long: whoever reads its beginning and hangs up makes no error.
fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(anyhow::Error::from(error).into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn drawn() -> Result<u64, Failure> {
    let drawn = getrandom::u64().context("the system gives no random numbers")?;
    Ok(1 + drawn % DRAWN_BELOW)
}

fn scenario(sim: &cli::Sim, global: &Global, seed: u64) -> Scenario {
    Scenario {
        nodes: sim.nodes,
        rf: sim.rf,
        lasts: time::micros(sim.lasts),
        clients: sim.clients,
        rate: sim.rate,
        keys: sim.keys,
        workloads: sim.workload.clone(),
        read: sim.read.clone(),
        write: sim.write.clone(),
        read_repair: sim.read_repair.into(),
        synced_every: match sim.sync {
            Sync::Group => None,
            Sync::Every(span) => Some(time::micros(span)),
        },
        troubles: sim.faults.clone(),
        fault_every: time::micros(sim.fault_every),
        within: time::micros(global.timeout),
        seed,
    }
}

/// All runs, one after the other, counted together.
fn account(sim: &cli::Sim, scenario: &Scenario) -> Result<Account, Failure> {
    // A panic of a machine is a broken promise, and is told as one.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let account = all_runs(sim, scenario);
    std::panic::set_hook(hook);
    account
}

fn all_runs(sim: &cli::Sim, scenario: &Scenario) -> Result<Account, Failure> {
    let mut account = Account::default();
    for run in 0..sim.runs {
        let plan = Scenario { seed: scenario.seed.wrapping_add(run), ..scenario.clone() }.plan()?;
        progress(run, sim.runs);
        let (report, told) = run_told(&plan, sim.trace);
        if sim.trace {
            say(&report.trace.lines().join("\n"))?;
        }
        account.add(Account::of(&plan, &report, &told));
    }
    progress(sim.runs, sim.runs);
    Ok(account)
}

/// One line that the next overwrites, for a person who waits for many runs.
fn progress(run: u64, runs: u64) {
    let mut terminal = std::io::stderr();
    if runs == 1 || !terminal.is_terminal() {
        return;
    }
    let line = if run < runs { format!("\rrun {} of {runs}", run + 1) } else { "\r\x1b[K".to_string() };
    // Progress that nobody can read harms nobody.
    terminal.write_all(line.as_bytes()).ok();
}

/// The command that shows the same again; what stands by default is left out.
fn again(sim: &cli::Sim, global: &Global, seed: u64) -> String {
    let mut words = vec!["kula sim".to_string()];
    let mut say = |flag: &str, value: String, default: &str| {
        if value != default {
            words.push(format!("--{flag} {value}"));
        }
    };
    let span = |span: Duration| humantime::format_duration(span).to_string().replace(' ', "");
    say("nodes", sim.nodes.to_string(), "3");
    say("rf", sim.rf.to_string(), "3");
    say("for", span(sim.lasts), &span(Duration::from_secs(60)));
    say("clients", sim.clients.to_string(), "4");
    say("rate", sim.rate.to_string(), "20");
    say("keys", sim.keys.to_string(), "8");
    say("workload", words_of(&sim.workload), "register,set,bucket");
    say("write", levels(&sim.write, ","), "quorum");
    say("read", levels(&sim.read, ","), "quorum");
    say("read-repair", name(&sim.read_repair), &name(&Repair::Blocking));
    let sync = match sim.sync {
        Sync::Group => "group".to_string(),
        Sync::Every(every) => span(every),
    };
    say("sync", sync, "group");
    say("faults", words_of(&sim.faults), "kill,partition");
    say("fault-every", span(sim.fault_every), "8s");
    say("timeout", span(global.timeout), "5s");
    say("runs", sim.runs.to_string(), "1");
    say("seed", seed.to_string(), "");
    words.join(" ")
}

fn levels(levels: &[Consistency], between: &str) -> String {
    levels.iter().map(Consistency::to_string).collect::<Vec<_>>().join(between)
}

fn words_of<T: ValueEnum>(values: &[T]) -> String {
    values.iter().map(name).collect::<Vec<_>>().join(",")
}

fn name<T: ValueEnum>(value: &T) -> String {
    word(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser;

    fn parsed(line: &str) -> (cli::Sim, Global) {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        match arguments.command {
            Command::Sim(sim) => (sim, arguments.global),
            _ => unreachable!("the line says sim"),
        }
    }

    fn told(line: &str) -> (Verdict, String, serde_json::Value) {
        let (sim, global) = parsed(line);
        let seed = sim.seed.unwrap();
        let scenario = scenario(&sim, &global, seed);
        let account = account(&sim, &scenario).unwrap_or_else(|failure| panic!("{failure}"));
        let again = again(&sim, &global, seed);
        let took = Duration::from_millis(120);
        let page = Page { scenario: &scenario, again, runs: sim.runs, account: &account, took, traced: false };
        (page.verdict(), page.text(false), page.json())
    }

    #[test]
    fn the_command_that_is_told_again_is_the_same_command() {
        let line = "kula sim --nodes 5 --for 90s --workload set,bucket --write one,2 --read-repair off --sync 100ms \
                    --faults all,lost-disk --timeout 1s --runs 3 --seed 12";
        let (sim, global) = parsed(line);
        let said = again(&sim, &global, 12);
        let (again_sim, again_global) = parsed(&said);
        assert_eq!(scenario(&sim, &global, 12), scenario(&again_sim, &again_global, 12), "{said}");
        assert_eq!(again(&again_sim, &again_global, 12), said);
        let (plain, global) = parsed("kula sim");
        assert_eq!(again(&plain, &global, 7), "kula sim --seed 7");
    }

    #[test]
    fn one_seed_tells_one_page() {
        let line =
            "kula sim --for 20s --rate 10 --write one --read one --faults kill,partition --fault-every 4s --seed 3";
        let (verdict, text, _) = told(line);
        assert_eq!(verdict, Verdict::Ok);
        assert_eq!(text, told(line).1);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_one_acknowledgement_and_a_lost_disk_cost_is_told() {
        let line = "kula sim --for 20s --rate 10 --workload set --write one --read one --faults partition,lost-disk \
                    --fault-every 3s --seed 1";
        let (verdict, text, json) = told(line);
        assert_eq!(verdict, Verdict::Ok, "no promise broke");
        assert_eq!(json["lost_writes"][0]["holders"][0]["taken_by"], "lost disk");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_broken_promise_is_an_error() {
        let (sim, global) = parsed("kula sim --seed 1");
        let account = Account { runs: 1, violations: vec![(1, "it is not there".into())], ..Account::default() };
        let scenario = scenario(&sim, &global, 1);
        let (again, took) = (again(&sim, &global, 1), Duration::from_millis(1));
        let page = Page { scenario: &scenario, again, runs: 1, account: &account, took, traced: false };
        assert_eq!(page.verdict(), Verdict::Error);
        assert!(page.text(false).starts_with("BROKEN  ") && page.text(false).contains("seed 1: it is not there"));
        assert_eq!(page.json()["verdict"], "broken");
    }

    #[test]
    fn a_cluster_that_cannot_be_is_refused_with_the_next_command() {
        let refused = |line: &str| {
            let (sim, global) = parsed(line);
            let failure = account(&sim, &scenario(&sim, &global, 1)).unwrap_err();
            assert_eq!(failure.verdict(), Verdict::Usage, "{line}");
            let Failure::Scenario(error) = failure else { panic!("{line}: {failure}") };
            format!("{line}\n  {error}\n  next: {}", next(&error))
        };
        let lines = [
            "kula sim --nodes 0",
            "kula sim --rf 9",
            "kula sim --write any",
            "kula sim --nodes 2 --read three",
            "kula sim --for 0s",
            "kula sim --rate 1000000",
            "kula sim --keys 0",
            "kula sim --clients 0",
            "kula sim --timeout 90s",
            "kula sim --sync 1h",
            "kula sim --fault-every 1ms",
            "kula sim --faults none,kill",
            "kula sim --nodes 2 --faults lost-disk",
        ];
        insta::assert_snapshot!(lines.map(refused).join("\n"));
    }
}
