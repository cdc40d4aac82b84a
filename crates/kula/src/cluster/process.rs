//! A node's process: found by its pid file, known by its data directory, signalled through a handle of the kernel.
//!
//! A pid may belong to somebody else by now. So the handle is taken first, then the command line of that pid is read: only
//! one that names this node's data directory is ours. A handle never moves on to another process, so what is signalled
//! is what was looked at; and a process that began at another time is another one, so no wait is for a stranger.

use super::{
    error::ClusterError,
    limits::{LOOK_EVERY, NAMED_MAX},
    plan::Member,
};
use crate::stopwatch::now;
use rustix::{
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{fs::File, io, path::Path, process, time::Duration};

/// What a node's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    /// Stopped by SIGSTOP.
    Paused,
    Dead,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Dead => "dead",
        }
    }
}

/// A process that was this node's when it was found.
pub struct Process {
    pid: Pid,
    handle: OwnedFd,
    /// When it began, in the kernel's ticks.
    began: String,
}

impl Process {
    /// The process that runs `member`, if there is one.
    pub fn find(member: &Member) -> Option<Process> {
        let text = read(&member.pid_file()).ok()?;
        Process::of(text.trim().parse().ok()?, member)
    }

    /// Process `pid`, if it runs `member`.
    pub fn of(pid: i32, member: &Member) -> Option<Process> {
        let found = Process::open(pid)?;
        let command_line = bytes(Path::new(&format!("/proc/{pid}/cmdline"))).ok()?;
        (runs(&command_line, &member.data()) && found.state() != State::Dead).then_some(found)
    }

    /// Any process.
    fn open(pid: i32) -> Option<Process> {
        // A negative number would name a group of processes.
        let pid = if pid > 0 { Pid::from_raw(pid)? } else { return None };
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let began = began_of(&stat(pid))?.to_string();
        Some(Process { pid, handle, began })
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub fn state(&self) -> State {
        let stat = stat(self.pid);
        if began_of(&stat) == Some(self.began.as_str()) { state_of(&stat) } else { State::Dead }
    }

    /// Sends a signal; a process that has ended since needs none.
    pub fn signal(&self, signal: Signal, member: &Member) -> Result<(), ClusterError> {
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(ClusterError::Signal { node: member.name.clone(), source: error.into() }),
        }
    }

    /// Waits until it has ended; `false` if it has not after `most`.
    pub fn ended(&self, most: Duration) -> bool {
        let began = now();
        while self.state() != State::Dead {
            if began.elapsed() > most {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }
}

/// Starts `member` in the background with these words and writes its pid. It lives on when this process and its terminal
/// go: it takes a session of its own, reads nothing, and writes to its log.
pub fn spawn(member: &Member, words: &[String]) -> Result<Process, ClusterError> {
    let refused = |source| ClusterError::Spawn { node: member.name.clone(), source };
    make_directory(&member.directory)?;
    let log = File::options().create(true).append(true).open(member.log());
    let log = log.map_err(ClusterError::file(format!("open {}", member.log().display())))?;
    let program = std::env::current_exe().map_err(refused)?;
    let child = process::Command::new(program)
        .args(words)
        .current_dir(&member.directory)
        .stdin(process::Stdio::null())
        .stdout(log.try_clone().map_err(refused)?)
        .stderr(log)
        .spawn()
        .map_err(refused)?;
    write_pid(member, child.id())?;
    // The handle of a child stays with its pid until this process ends, so it cannot be another's yet.
    let gone = || refused(io::ErrorKind::NotFound.into());
    let spawned = i32::try_from(child.id()).ok().and_then(Process::open).ok_or_else(gone)?;
    // The kernel shows the new command line a moment after the start; others know the node by it.
    let began = now();
    while Process::of(spawned.pid(), member).is_none() && spawned.state() != State::Dead && began.elapsed() < NAMED_MAX
    {
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(spawned)
}

#[allow(clippy::disallowed_methods, reason = "the launcher's own files, not the database's")]
pub fn write_pid(member: &Member, pid: u32) -> Result<(), ClusterError> {
    let what = format!("write {}", member.pid_file().display());
    std::fs::write(member.pid_file(), format!("{pid}\n")).map_err(ClusterError::file(what))
}

/// Forgets the pid of a process that has ended.
#[allow(clippy::disallowed_methods, reason = "the launcher's own files, not the database's")]
pub fn forget_pid(member: &Member) {
    // Left behind it would be found to name no node of ours.
    std::fs::remove_file(member.pid_file()).ok();
}

#[allow(clippy::disallowed_methods, reason = "the launcher's own files, not the database's")]
pub fn make_directory(directory: &Path) -> Result<(), ClusterError> {
    std::fs::create_dir_all(directory).map_err(ClusterError::file(format!("make {}", directory.display())))
}

#[allow(clippy::disallowed_methods, reason = "the launcher's own files and /proc, not the database's")]
pub fn read(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file)
}

#[allow(clippy::disallowed_methods, reason = "the command line may hold any bytes")]
fn bytes(file: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(file)
}

/// Whether this command line (words ended by NUL) is a node's on this data directory.
fn runs(command_line: &[u8], data: &Path) -> bool {
    let words: Vec<&[u8]> = command_line.split(|&byte| byte == 0).collect();
    let is_node = words.get(1).is_some_and(|word| word == b"node");
    let data = data.as_os_str().as_encoded_bytes();
    is_node && words.windows(2).any(|pair| pair[0] == b"--data" && pair[1] == data)
}

/// The line `/proc/PID/stat`; empty if there is no such process.
fn stat(pid: Pid) -> String {
    read(Path::new(&format!("/proc/{pid}/stat"))).unwrap_or_default()
}

/// A field of that line, the state being the first: the command's name before it is in parentheses and may hold anything.
fn field(stat: &str, place: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(place)
}

/// When the process began.
fn began_of(stat: &str) -> Option<&str> {
    field(stat, 19)
}

fn state_of(stat: &str) -> State {
    match field(stat, 0).and_then(|state| state.chars().next()) {
        None | Some('Z' | 'X' | 'x') => State::Dead,
        Some('T') => State::Paused,
        Some(_) => State::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_on_this_directory_is_ours() {
        let data = Path::new("/c/n1/data");
        let is = |line: &str| runs(line.replace(' ', "\0").as_bytes(), data);
        assert!(is("/bin/kula node --name n1 --data /c/n1/data --expect 3 "));
        assert!(!is("/bin/kula node --name n1 --data /c/n2/data "), "another node");
        assert!(!is("/bin/kula node --name n1 --data /c/n1/data/deeper "));
        assert!(!is("vi node /c/n1/data "));
        assert!(!is("/bin/kula get --data /c/n1/data "));
        assert!(!is("strace kula node --data /c/n1/data "), "killing strace would leave the node behind");
        assert!(!is(""), "a process that has ended and was not collected");
    }

    #[test]
    fn a_state_is_read_behind_any_name() {
        let states = ["7 (kula) S 1 7", "7 (a) Z ) T 1 7", "7 (kula) Z 1 7", "7 (kula) R 1", "7 (kula) t 1", ""];
        let expected = [State::Running, State::Paused, State::Dead, State::Running, State::Running, State::Dead];
        assert_eq!(states.map(state_of), expected);
    }

    #[test]
    fn a_foreign_process_is_never_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let member = Member {
            name: "n1".into(),
            http: "127.0.0.1:7080".parse().unwrap(),
            peer: "127.0.0.1:7000".parse().unwrap(),
            directory: std::env::temp_dir().join(format!("kula-process-{own}")),
        };
        assert!(Process::of(own, &member).is_none(), "this test is no node");
        assert!(Process::of(0, &member).is_none());
        assert!(Process::of(-1, &member).is_none());
        make_directory(&member.directory).unwrap();
        write_pid(&member, std::process::id()).unwrap();
        assert!(Process::find(&member).is_none(), "a stale pid file names a foreign process");
        forget_pid(&member);
        assert!(Process::find(&member).is_none());
        std::fs::remove_dir(&member.directory).unwrap();
    }
}
