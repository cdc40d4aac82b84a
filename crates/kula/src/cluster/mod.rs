//! Development clusters: real `kula node` processes in the background, each with its own loopback address and directory.
//!
//! Everything that is known of a cluster stands in its directory (`cluster.toml`, and data, log and pid of each node), so
//! any later command finds it again, and what died in between is seen. Nothing here is needed to run Kula: a node knows
//! nothing of its launcher.

mod address;
mod error;
mod health;
mod holder;
mod limits;
pub mod log;
mod plan;
mod process;

pub use error::ClusterError;
pub use health::{client, state_of};
pub use plan::{Member, Wish};
pub use process::State;

use crate::{cli::Launched, client::Client, stopwatch::now};
use process::Process;
use rustix::{
    fs::{FlockOperation, flock},
    process::Signal,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

/// A cluster and where it is.
pub struct Cluster {
    directory: PathBuf,
    plan: plan::Plan,
    members: Vec<Member>,
    launched: Launched,
}

/// What `up` or `start` found and did to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Started,
    RanAlready,
    WasPaused,
}

/// A node that is waited for.
struct Begun<'a> {
    member: &'a Member,
    process: Process,
    done: Done,
    /// Where in its log this start begins.
    log_from: u64,
}

/// A cluster that is up.
pub struct Up {
    pub nodes: Vec<(Member, Done)>,
    pub took: Duration,
}

/// One node as `kula cluster list` shows it.
pub struct Listed {
    pub member: Member,
    pub state: State,
    pub pid: Option<i32>,
    pub ready: bool,
}

impl Cluster {
    /// The cluster in `directory`.
    pub fn open(directory: &Path) -> Result<Self, ClusterError> {
        let no_cluster = || ClusterError::NoCluster { directory: directory.display().to_string() };
        let stored = Cluster::stored(directory)?.ok_or_else(no_cluster)?;
        Cluster::of(directory, stored)
    }

    /// The cluster in `directory`, made if there is none, with what is asked of it stored.
    pub fn make(directory: &Path, wish: &Wish) -> Result<Self, ClusterError> {
        let stored = Cluster::stored(directory)?;
        if stored.is_none() && holds_files(directory) {
            return Err(ClusterError::NotOurs { directory: directory.display().to_string() });
        }
        let plan = plan::Plan::merge(stored.clone(), wish)?;
        process::make_directory(directory)?;
        if stored.as_ref() != Some(&plan) {
            store(&directory.join(plan::FILE), &plan.to_text()?)?;
        }
        Cluster::of(directory, plan)
    }

    fn of(directory: &Path, plan: plan::Plan) -> Result<Self, ClusterError> {
        let what = format!("find {}", directory.display());
        // Nodes are known by the path of their data, so it must read the same from everywhere.
        let directory = directory.canonicalize().map_err(ClusterError::file(what))?;
        let members = plan.members(&directory)?;
        Ok(Cluster { directory, plan, members, launched: Launched::Background })
    }

    /// The same, its nodes started otherwise from now on.
    pub fn launched(self, launched: Launched) -> Self {
        Cluster { launched, ..self }
    }

    fn stored(directory: &Path) -> Result<Option<plan::Plan>, ClusterError> {
        let file = directory.join(plan::FILE);
        match process::read(&file) {
            Ok(text) => plan::Plan::from_text(&file.display().to_string(), &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ClusterError::file(format!("read {}", file.display()))(error)),
        }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> Result<&Member, ClusterError> {
        let found = self.members.iter().find(|member| member.name == name);
        found.ok_or_else(|| ClusterError::NoSuchNode { name: name.into(), nodes: self.plan.nodes })
    }

    /// Starts what is dead, wakes what is paused, and waits until all nodes are ready and see each other up.
    pub fn up(&self) -> Result<Up, ClusterError> {
        let all: Vec<&Member> = self.members.iter().collect();
        self.bring_up(&all, limits::UP_MAX)
    }

    /// Starts these nodes and waits until each is ready, and it and the others that answer see each other up.
    pub fn start(&self, members: &[&Member]) -> Result<Up, ClusterError> {
        let paused = |member: &&&Member| Process::find(member).is_some_and(|found| found.state() == State::Paused);
        if let Some(member) = members.iter().find(paused) {
            return Err(ClusterError::Paused { node: member.name.clone() });
        }
        self.bring_up(members, limits::START_MAX)
    }

    fn bring_up(&self, members: &[&Member], most: Duration) -> Result<Up, ClusterError> {
        let began = now();
        let begun = self.begin(members)?;
        self.wait(&begun, most)?;
        let nodes = begun.iter().map(|begun| (begun.member.clone(), begun.done)).collect();
        Ok(Up { nodes, took: began.elapsed() })
    }

    /// One command at a time starts processes: two would both find a node dead.
    fn begin<'a>(&self, members: &[&'a Member]) -> Result<Vec<Begun<'a>>, ClusterError> {
        let refused = |error| ClusterError::file(format!("lock {}", self.directory.display()))(error);
        let lock = File::options().read(true).open(&self.directory).map_err(refused)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| refused(error.into()))?;
        let found = members.iter().map(|member| Ok((*member, self.find_or_free(member)?)));
        let found = found.collect::<Result<Vec<_>, ClusterError>>()?;
        let mut begun = Vec::with_capacity(found.len());
        for (member, process) in found {
            let log_from = log::length(&member.log());
            let (process, done) = match process {
                None => {
                    let words = self.plan.command(member, &self.members, self.launched);
                    (process::spawn(member, &words)?, Done::Started)
                }
                Some(process) if process.state() == State::Paused => {
                    process.signal(Signal::CONT, member)?;
                    (process, Done::WasPaused)
                }
                Some(process) => (process, Done::RanAlready),
            };
            begun.push(Begun { member, process, done, log_from });
        }
        Ok(begun)
    }

    /// The process of `member`; or none, and its addresses are free.
    fn find_or_free(&self, member: &Member) -> Result<Option<Process>, ClusterError> {
        if let Some(process) = Process::find(member) {
            return Ok(Some(process));
        }
        let Some(address) = [member.http, member.peer].into_iter().find(|address| holder::is_taken(*address)) else {
            return Ok(None);
        };
        let pid = holder::listener(address);
        // A launcher that was killed between start and pid file left a node that is ours all the same.
        match pid.and_then(|pid| Process::of(pid, member)) {
            Some(process) => {
                process::write_pid(member, process.pid().unsigned_abs())?;
                Ok(Some(process))
            }
            None => {
                let (node, holder) = (member.name.clone(), pid.map(holder::describe));
                Err(ClusterError::PortInUse { node, address, holder })
            }
        }
    }

    fn wait(&self, begun: &[Begun<'_>], most: Duration) -> Result<(), ClusterError> {
        let began = now();
        let needed: Vec<String> = begun.iter().map(|begun| begun.member.name.clone()).collect();
        let clients: Vec<(&Member, Client)> = self.members.iter().map(|member| (member, client(member))).collect();
        loop {
            let dead = begun.iter().find(|begun| begun.process.state() == State::Dead);
            if let Some(Begun { member, log_from, .. }) = dead {
                return Err(ClusterError::Ended {
                    node: member.name.clone(),
                    last: log::verdict(&lines(member, *log_from)),
                });
            }
            // A paused or dead neighbour would only be waited for; of those that are needed an answer is due.
            let asked: Vec<(&Member, &Client)> = clients
                .iter()
                .filter(|(member, _)| needed.contains(&member.name) || is_running(member))
                .map(|(member, client)| (*member, client))
                .collect();
            let missing = health::missing(&health::ask(&asked), &needed);
            if missing.is_empty() {
                return Ok(());
            }
            if began.elapsed() > most {
                let named = begun
                    .iter()
                    .find(|begun| missing.iter().any(|text| text.starts_with(&format!("{} ", begun.member.name))));
                let last = named.and_then(|begun| log::complaint(&lines(begun.member, begun.log_from)));
                return Err(ClusterError::NotReady { waited: most, missing, last });
            }
            std::thread::sleep(limits::LOOK_EVERY);
        }
    }

    /// SIGKILL, and the exit waited for. `false`: it was not running.
    pub fn kill(&self, member: &Member) -> Result<bool, ClusterError> {
        let Some(process) = Process::find(member) else { return Ok(false) };
        process.signal(Signal::KILL, member)?;
        if !process.ended(limits::KILL_MAX) {
            return Err(ClusterError::StillRunning { nodes: vec![member.name.clone()], waited: limits::KILL_MAX });
        }
        process::forget_pid(member);
        Ok(true)
    }

    /// SIGSTOP, and the stop waited for.
    pub fn pause(&self, member: &Member) -> Result<(), ClusterError> {
        self.signal(member, Signal::STOP, State::Paused)
    }

    /// SIGCONT.
    pub fn resume(&self, member: &Member) -> Result<(), ClusterError> {
        self.signal(member, Signal::CONT, State::Running)
    }

    fn signal(&self, member: &Member, signal: Signal, until: State) -> Result<(), ClusterError> {
        let gone = || ClusterError::NotRunning { node: member.name.clone() };
        let process = Process::find(member).ok_or_else(gone)?;
        process.signal(signal, member)?;
        let began = now();
        while process.state() != until && began.elapsed() < limits::KILL_MAX {
            if process.state() == State::Dead {
                return Err(gone());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// SIGTERM to all, and their exits waited for. Returns those that ran.
    pub fn down(&self) -> Result<Vec<String>, ClusterError> {
        let running: Vec<(&Member, Process)> =
            self.members.iter().filter_map(|member| Some((member, Process::find(member)?))).collect();
        for (member, process) in &running {
            process.signal(Signal::TERM, member)?;
            // A paused process takes the first signal only when it goes on.
            process.signal(Signal::CONT, member)?;
        }
        let began = now();
        let left =
            |(_, process): &&(&Member, Process)| !process.ended(limits::DOWN_MAX.saturating_sub(began.elapsed()));
        let left: Vec<String> = running.iter().filter(left).map(|(member, _)| member.name.clone()).collect();
        for (member, _) in running.iter().filter(|(member, _)| !left.contains(&member.name)) {
            process::forget_pid(member);
        }
        if !left.is_empty() {
            return Err(ClusterError::StillRunning { nodes: left, waited: limits::DOWN_MAX });
        }
        Ok(running.iter().map(|(member, _)| member.name.clone()).collect())
    }

    /// Removes the nodes' directories and the cluster's own. Only what this program made: `false` if others' files are left.
    #[allow(clippy::disallowed_methods, reason = "the launcher's own directory")]
    pub fn wipe(self) -> Result<bool, ClusterError> {
        for member in &self.members {
            match std::fs::remove_dir_all(&member.directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ClusterError::file(format!("remove {}", member.directory.display()))(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        // Last: until it is gone the command can be repeated.
        let file = self.directory.join(plan::FILE);
        std::fs::remove_file(&file).map_err(ClusterError::file(format!("remove {}", file.display())))?;
        Ok(std::fs::remove_dir(&self.directory).is_ok())
    }

    /// Each node: its process, and whether it takes requests.
    pub fn list(&self) -> Vec<Listed> {
        let look = |member: &Member| {
            let process = Process::find(member);
            let state = process.as_ref().map_or(State::Dead, Process::state);
            let ready = state == State::Running && health::is_ready(&client(member));
            Listed { member: member.clone(), state, pid: process.map(|process| process.pid()), ready }
        };
        self.members.iter().map(look).collect()
    }

    /// The lines at the end of a node's log, of at most its last few mebibytes.
    pub fn log(&self, member: &Member) -> Result<Vec<String>, ClusterError> {
        let what = format!("read {}", member.log().display());
        log::tail(&member.log(), 0).map_err(ClusterError::file(what))
    }
}

fn is_running(member: &Member) -> bool {
    Process::find(member).is_some_and(|process| process.state() == State::Running)
}

/// What a node logged since this place; nothing if that cannot be read.
fn lines(member: &Member, from: u64) -> Vec<String> {
    log::tail(&member.log(), from).unwrap_or_default()
}

#[allow(clippy::disallowed_methods, reason = "the launcher's own files, not the database's")]
fn store(file: &Path, text: &str) -> Result<(), ClusterError> {
    // Renamed over the old one: another command never reads half of it.
    let fresh = file.with_extension("toml.new");
    let what = format!("write {}", file.display());
    std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, file)).map_err(ClusterError::file(what))
}

#[allow(clippy::disallowed_methods, reason = "the launcher's own directory")]
fn holds_files(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}
