//! A node under test: its own loopback address, its own directory, and a client that knows nothing of Kula's insides.

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Read,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use ureq::http;

/// The longest a node may take to be ready; far more than it needs.
const READY_MAX: Duration = Duration::from_secs(20);

/// A node whose memtables and log fill within seconds of a test's load.
pub const SMALL_STORE: &[&str] = &[
    "--set",
    "storage.memtable_heap=2000000",
    "--set",
    "storage.commitlog_segment=1048576",
    "--set",
    "storage.commitlog_total=8388608",
];

/// The built binary, or `None` where it is missing and the test may be skipped.
pub fn binary() -> Option<&'static Path> {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    BINARY.get_or_init(find_binary).as_deref()
}

fn find_binary() -> Option<PathBuf> {
    let target = target();
    let named = std::env::var_os("KULA_BINARY").map(PathBuf::from);
    let built = ["release", "debug"].map(|profile| target.join(profile).join("kula"));
    let found = named.into_iter().chain(built).find(|path| path.exists());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "CI must not skip: build the binary first");
    if found.is_none() {
        eprintln!("SKIPPED: no binary; run cargo build --release -p kula");
    }
    found
}

/// Where cargo builds, and where tests put what they need.
pub fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/all-HASH
    test.ancestors().nth(3).unwrap().to_path_buf()
}

/// Says that something a test needs is missing: skips loudly, or fails in CI.
pub fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must not skip: {what}");
    eprintln!("SKIPPED: {what}");
}

/// A loopback address and a directory that no other test has, for as long as this lives.
pub struct Place {
    pub address: String,
    pub directory: PathBuf,
    lock: Arc<File>,
}

impl Place {
    pub fn new(test: &str) -> Self {
        let locks = target().join("tmp").join("loopback");
        fs::create_dir_all(&locks).unwrap();
        for number in 1..250 {
            let lock = File::create(locks.join(format!("{number}.lock"))).unwrap();
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let directory = target().join("tmp").join(test);
                fs::remove_dir_all(&directory).ok();
                fs::create_dir_all(&directory).unwrap();
                return Place { address: format!("127.77.{number}.1"), directory, lock: Arc::new(lock) };
            }
        }
        panic!("no loopback address is free");
    }

    /// The address of the node with this number in a cluster of this place.
    pub fn address_of(&self, number: usize) -> String {
        let (network, _) = self.address.rsplit_once('.').unwrap();
        format!("{network}.{number}")
    }

    /// A place within this one for the node `name`, with an address of its own.
    pub fn member(&self, name: &str, address: &str) -> Place {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).unwrap();
        Place { address: address.to_owned(), directory, lock: Arc::clone(&self.lock) }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// `kula node` with these further arguments, its log in `log.jsonl`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary().unwrap());
        self.arguments(&mut command, arguments);
        command
    }

    /// The same behind another program, such as strace.
    pub fn command_under(&self, program: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(binary().unwrap());
        self.arguments(&mut command, arguments);
        command
    }

    fn arguments(&self, command: &mut Command, arguments: &[&str]) {
        let log = File::options().create(true).append(true).open(self.directory.join("log.jsonl")).unwrap();
        command.args(["node", "--address", &self.address, "--set", "log.format=json", "--data"]).arg(self.data());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env_remove("KULA_AT");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log.jsonl")).unwrap_or_default()
    }
}

/// A running node, which is killed on drop.
pub struct Node<'a> {
    pub place: &'a Place,
    pub child: Child,
    client: Client,
}

impl Deref for Node<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Speaks HTTP with one address.
#[derive(Clone)]
pub struct Client {
    pub address: String,
    agent: ureq::Agent,
}

/// An answer over HTTP.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and code of a problem.
    pub fn problem(&self) -> (u16, String) {
        let problem = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{problem}");
        assert_eq!(problem["status"], self.status, "{problem}");
        for key in ["type", "title", "code", "hint"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {problem}");
        }
        (self.status, problem["code"].as_str().unwrap().to_string())
    }
}

impl Client {
    pub fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(Duration::from_secs(20)));
        Client { address: address.to_owned(), agent: config.build().into() }
    }

    pub fn url(&self) -> String {
        format!("http://{}:7080", self.address)
    }

    pub fn is_ready(&self) -> bool {
        self.try_ask("GET", "/healthz/ready", &[], b"").is_ok_and(|answer| answer.status == 200)
    }

    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = self.agent.run(request.body(body).unwrap())?;
        let mut bytes = Vec::new();
        answer.body_mut().as_reader().read_to_end(&mut bytes).map_err(ureq::Error::Io)?;
        Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body: bytes })
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_ask(method, path, headers, body).unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn put(&self, path: &str, value: &str) -> Answer {
        self.ask("PUT", path, &[], value.as_bytes())
    }

    /// Makes a keyspace and in it a table.
    pub fn make_table(&self, keyspace: &str, table: &str, kind: &str) {
        let created = self.ask("POST", "/v1/keyspaces", &[], format!("{{\"name\":\"{keyspace}\"}}").as_bytes());
        assert!(created.status < 300 || created.status == 409, "{}", created.text());
        let body = format!("{{\"name\":\"{table}\",\"kind\":\"{kind}\"}}");
        let created = self.ask("POST", &format!("/v1/keyspaces/{keyspace}/tables"), &[], body.as_bytes());
        assert!(created.status < 300, "{}", created.text());
    }

    /// The command line against this node.
    pub fn kula(&self, arguments: &[&str]) -> Output {
        Command::new(binary().unwrap()).args(["--at", &self.url()]).args(arguments).output().unwrap()
    }
}

impl<'a> Node<'a> {
    pub fn start(place: &'a Place, arguments: &[&str]) -> Self {
        Node::from_command(place, place.command(arguments))
    }

    pub fn from_command(place: &'a Place, command: Command) -> Self {
        let mut node = Node::spawn(place, command);
        node.wait_ready();
        node
    }

    /// Does not wait until it is ready.
    pub fn spawn(place: &'a Place, mut command: Command) -> Self {
        let child = command.spawn().unwrap();
        Node { place, child, client: Client::new(&place.address) }
    }

    pub fn wait_ready(&mut self) {
        let began = Instant::now();
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the node ended with {status}: {}", self.place.log());
            }
            assert!(began.elapsed() < READY_MAX, "not ready: {}", self.place.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGKILL, and the exit waited for.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit waited for.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for an exit that must come.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < READY_MAX, "the node did not end: {}", self.place.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // Gone already is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a node that must refuse to start; returns its exit code and what it said.
pub fn refused(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > READY_MAX {
            child.kill().ok();
            panic!("it should have refused to start");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}
