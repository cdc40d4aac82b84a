//! Three nodes under test, started as `kula node` from the same words, each at a loopback address and in a directory of its
//! own; and what the tests of clusters say about all of them at once.

use crate::harness::{Client, Node, Place, SMALL_STORE};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

/// The longest a cluster may take to be whole; far more than it needs.
const WHOLE_MAX: Duration = Duration::from_secs(30);

/// Where the nodes n1, n2, .. of one test live.
pub struct Places {
    pub home: Place,
    pub members: Vec<Place>,
}

impl Places {
    pub fn new(test: &str, nodes: usize) -> Self {
        let home = Place::new(test);
        let members = (1..=nodes).map(|number| home.member(&name(number), &home.address_of(number))).collect();
        Places { home, members }
    }

    /// Of n1, n2, ..
    pub fn of(&self, number: usize) -> &Place {
        &self.members[number - 1]
    }
}

pub fn name(number: usize) -> String {
    format!("n{number}")
}

/// How a node of a cluster is started beside its address and directory.
pub fn arguments(number: usize, seeds: &[&Place], further: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--name".to_owned(), name(number), "--expect".to_owned(), seeds.len().to_string()];
    for seed in seeds {
        arguments.extend(["--seed".to_owned(), format!("{}:7000", seed.address)]);
    }
    arguments.extend(SMALL_STORE.iter().chain(further).map(|word| (*word).to_owned()));
    arguments
}

type Starting<'a> = Box<dyn Fn(usize) -> Command + 'a>;

/// Running nodes. Numbers begin with 1.
pub struct Cluster<'a> {
    places: &'a Places,
    nodes: Vec<Option<Node<'a>>>,
    command: Starting<'a>,
}

impl<'a> Cluster<'a> {
    /// Starts all nodes at once and waits until each of them sees all of them up.
    pub fn start(places: &'a Places) -> Self {
        Cluster::start_with(places, &[])
    }

    /// The same with these further arguments for each node.
    pub fn start_with(places: &'a Places, further: &'a [&'a str]) -> Self {
        Cluster::start_by(places, move |number| {
            let seeds: Vec<&Place> = places.members.iter().collect();
            let arguments = arguments(number, &seeds, further);
            places.of(number).command(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
    }

    /// The same with a command made for each node.
    pub fn start_by(places: &'a Places, command: impl Fn(usize) -> Command + 'a) -> Self {
        let began = Instant::now();
        let numbers = 1..=places.members.len();
        let nodes = numbers.map(|number| Some(Node::spawn(places.of(number), command(number)))).collect();
        let mut cluster = Cluster { places, nodes, command: Box::new(command) };
        cluster.nodes.iter_mut().flatten().for_each(Node::wait_ready);
        cluster.wait_whole();
        println!("{}: {} nodes whole after {:?}", places.home.directory.display(), cluster.size(), began.elapsed());
        cluster
    }

    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Of one that runs, as all that take a number.
    pub fn node(&self, number: usize) -> &Node<'a> {
        self.nodes[number - 1].as_ref().unwrap()
    }

    /// Of the nodes that run.
    pub fn clients(&self) -> Vec<Client> {
        self.nodes.iter().flatten().map(|node| (**node).clone()).collect()
    }

    /// SIGKILL, and the exit waited for.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number - 1].take().unwrap().kill();
    }

    /// SIGTERM, and the exit waited for.
    pub fn stop(&mut self, number: usize) -> ExitStatus {
        self.nodes[number - 1].take().unwrap().stop()
    }

    /// SIGKILL to all of them before the first exit is waited for.
    pub fn kill_all(&mut self) {
        self.nodes.iter().flatten().for_each(|node| node.signal(Signal::KILL));
        self.nodes.iter_mut().for_each(|node| drop(node.take()));
    }

    /// Starts it again; does not wait.
    pub fn spawn(&mut self, number: usize) {
        self.spawn_with(number, &[]);
    }

    /// The same with these further arguments for this once.
    pub fn spawn_with(&mut self, number: usize, further: &[&str]) {
        assert!(self.nodes[number - 1].is_none(), "it runs");
        let mut command = (self.command)(number);
        command.args(further);
        self.nodes[number - 1] = Some(Node::spawn(self.places.of(number), command));
    }

    /// Starts it again and waits until it is ready.
    pub fn restart(&mut self, number: usize) {
        self.spawn(number);
        self.wait_ready(number);
    }

    pub fn wait_ready(&mut self, number: usize) {
        self.nodes[number - 1].as_mut().unwrap().wait_ready();
    }

    /// Waits until each node that runs sees all nodes up.
    pub fn wait_whole(&self) {
        for client in self.clients() {
            wait_for(&format!("{} to see everybody up", client.address), WHOLE_MAX, || {
                let states = states_of(&client);
                states.len() == self.size() && states.iter().all(|(_, state)| state == "up")
            });
        }
    }

    /// Whether the node that asks sees this one so.
    pub fn sees(&self, asks: usize, number: usize, state: &str) -> bool {
        let (name, states) = (name(number), states_of(self.node(asks)));
        states.iter().any(|(node, seen)| *node == name && seen == state)
    }

    /// Hints that this node holds, for everybody.
    pub fn hints(&self, number: usize) -> u64 {
        hints_of(self.node(number))
    }

    /// Waits until no node that runs holds a hint.
    pub fn wait_drained(&self, within: Duration) {
        let began = Instant::now();
        wait_for("every hint to be delivered", within, || self.clients().iter().all(|client| hints_of(client) == 0));
        println!("hints drained {:?} after the return", began.elapsed());
    }

    /// Nothing in any log says that a node panicked, and each line says once who speaks.
    pub fn assert_calm(&self) {
        for place in &self.places.members {
            let log = place.log();
            assert!(!log.contains("panicked"), "{}", place.directory.display());
            let twice = log.lines().find(|line| line.matches("\"actor\":").count() > 1);
            assert_eq!(twice, None, "{}", place.directory.display());
        }
    }
}

/// Names and states, as this node's status shows them; nothing if it does not answer.
pub fn states_of(client: &Client) -> Vec<(String, String)> {
    let Ok(answer) = client.try_ask("GET", "/v1/status", &[], b"") else { return Vec::new() };
    if answer.status != 200 {
        return Vec::new();
    }
    let status = answer.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    status["nodes"].as_array().into_iter().flatten().map(|node| (text(&node["name"]), text(&node["state"]))).collect()
}

pub fn hints_of(client: &Client) -> u64 {
    let answer = client.get("/v1/hints");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hints = answer.json();
    let sum: u64 = hints["hints"].as_array().unwrap().iter().map(|target| target["count"].as_u64().unwrap()).sum();
    assert_eq!(hints["total"].as_u64(), Some(sum), "{hints}");
    sum
}

/// Waits for what must come; how long it took.
pub fn wait_for(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < within, "waited {:?} in vain for {what}", began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}
