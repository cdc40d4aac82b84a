//! The network: connections that are two streams of bytes each, as TCP has them (`promises.md`, "Net trait").
//!
//! A stream keeps its order and loses nothing by itself. What goes wrong is what goes wrong with TCP: a way in one direction
//! is cut and the bytes wait; a connection is reset and an unknown suffix of what was on its way is gone; a machine dies
//! and nobody says so; a byte is flipped after the checksum of the network; some segments take very long.

use crate::time::{MILLISECOND, Micros, SECOND};
use bytes::Bytes;
use kula_clock::Random;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A process: the number of its machine, and its own, which no other ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    pub machine: usize,
    pub boot: u64,
}

/// What one end of a connection gets.
#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Bytes),
    /// The other end closed it, or the system reset it.
    End,
}

/// What is to happen in the network, later.
#[derive(Clone, Debug)]
pub enum NetEvent {
    /// Somebody's wish to connect reaches the machine.
    Knock { connection: ConnectionId },
    /// The answer to it is back.
    Answered { connection: ConnectionId, accepted: bool },
    /// A piece reaches the end with this number.
    Arrive { connection: ConnectionId, end: usize, piece: Piece },
}

/// One direction of a connection.
#[derive(Default)]
struct Stream {
    /// When the last piece arrives: later ones do not overtake it.
    last: Micros,
    /// Sent while the way was cut.
    held: VecDeque<Piece>,
    /// Nothing more arrives from here on.
    ended: bool,
}

struct Connection {
    ends: [ProcessId; 2],
    /// As the connecting side names its attempt.
    attempt: u64,
    streams: [Stream; 2],
    /// The connecting side was told that it stands.
    stands: bool,
    knocking: bool,
    /// Reset: what is on its way is lost.
    broken: bool,
    /// Who closed it, is gone, or was told of its end.
    over: [bool; 2],
}

/// How a way between two machines is, in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    pub cut: bool,
    /// Each piece takes up to so much longer.
    pub slow: Micros,
    /// Pieces of a thousand with a flipped bit.
    pub flips: u64,
}

#[derive(Default)]
pub struct Net {
    connections: BTreeMap<ConnectionId, Connection>,
    next: u64,
    ways: BTreeMap<(usize, usize), Way>,
    /// Pieces with a flipped bit, so far.
    pub flipped: u64,
    pub pieces: u64,
    pub tail: u64,
}

/// What the world schedules: when, and what.
pub type Later = Vec<(Micros, NetEvent)>;

/// A moment of the world: its time, its dice, and what comes of it.
pub struct Moment<'a> {
    pub now: Micros,
    pub random: &'a mut Random,
    pub later: &'a mut Later,
}

impl Net {
    pub fn way(&mut self, from: usize, to: usize) -> &mut Way {
        self.ways.entry((from, to)).or_default()
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.ways.get(&(from, to)).is_some_and(|way| way.cut)
    }

    fn delay(&mut self, from: usize, to: usize, random: &mut Random) -> Micros {
        let slow = self.ways.get(&(from, to)).map_or(0, |way| way.slow);
        // A hop in one room; one in two hundred waits for a retransmission, one in four thousand for several.
        let base = 80 + random.next() % 400;
        let tail = match random.next() % 4_000 {
            0 => SECOND / 4 + random.next() % SECOND,
            1..20 => 20 * MILLISECOND + random.next() % (180 * MILLISECOND),
            _ => 0,
        };
        self.tail += u64::from(tail > 0);
        base + tail + if slow > 0 { random.next() % slow } else { 0 }
    }

    /// Begins to connect. The answer is a `NetEvent::Answered`, or silence.
    pub fn connect(&mut self, from: ProcessId, attempt: u64, to: usize, moment: &mut Moment) -> ConnectionId {
        let connection = ConnectionId(self.next);
        self.next += 1;
        let ends = [from, ProcessId { machine: to, boot: 0 }];
        let streams = <[Stream; 2]>::default();
        self.connections.insert(
            connection,
            Connection { ends, attempt, streams, stands: false, knocking: true, broken: false, over: [false; 2] },
        );
        if !self.is_cut(from.machine, to) {
            moment
                .later
                .push((moment.now + self.delay(from.machine, to, moment.random), NetEvent::Knock { connection }));
        }
        connection
    }

    /// The knock is there: `process` takes it, if there is one; a machine that is off answers nothing.
    pub fn knocked(
        &mut self,
        connection: ConnectionId,
        process: Option<ProcessId>,
        is_on: bool,
        moment: &mut Moment,
    ) -> Option<ProcessId> {
        let of = self.connections.get_mut(&connection)?;
        let (from, to) = (of.ends[0].machine, of.ends[1].machine);
        of.knocking = false;
        if let Some(process) = process {
            of.ends[1] = process;
        }
        if !is_on || self.is_cut(to, from) {
            return None;
        }
        let at = moment.now + self.delay(to, from, moment.random);
        moment.later.push((at, NetEvent::Answered { connection, accepted: process.is_some() }));
        process
    }

    /// Which machine a connection is wanted with.
    pub fn target(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.get(&connection).map(|of| of.ends[1].machine)
    }

    /// Whose attempt was answered; a connection that was refused is gone.
    pub fn answered(&mut self, connection: ConnectionId, accepted: bool) -> Option<(ProcessId, u64)> {
        let of = self.connections.get_mut(&connection)?;
        if of.streams[0].ended {
            return None;
        }
        let (who, attempt) = (of.ends[0], of.attempt);
        of.stands = accepted;
        if !accepted {
            self.connections.remove(&connection);
        }
        Some((who, attempt))
    }

    /// The end that this process has.
    fn end_of(&self, connection: ConnectionId, process: ProcessId) -> Option<usize> {
        self.connections.get(&connection)?.ends.iter().position(|end| *end == process)
    }

    pub fn send(&mut self, connection: ConnectionId, from: ProcessId, piece: Piece, moment: &mut Moment) {
        let Some(end) = self.end_of(connection, from) else { return };
        self.pieces += 1;
        self.put(connection, end, piece, moment);
    }

    fn put(&mut self, connection: ConnectionId, end: usize, mut piece: Piece, moment: &mut Moment) {
        let Some(of) = self.connections.get(&connection) else { return };
        let (from, to) = (of.ends[end].machine, of.ends[1 - end].machine);
        let is_held = self.is_cut(from, to) || !of.streams[end].held.is_empty();
        if of.streams[end].ended {
            return;
        }
        if !is_held {
            let flips = self.ways.get(&(from, to)).map_or(0, |way| way.flips);
            if flips > 0 && moment.random.next() % 1_000 < flips {
                piece = self.flip(piece, moment.random);
            }
            let at = moment.now + self.delay(from, to, moment.random);
            let Some(of) = self.connections.get_mut(&connection) else { return };
            let stream = &mut of.streams[end];
            stream.last = stream.last.max(at);
            stream.ended |= matches!(piece, Piece::End);
            moment.later.push((stream.last, NetEvent::Arrive { connection, end: 1 - end, piece }));
        } else if let Some(of) = self.connections.get_mut(&connection) {
            of.streams[end].held.push_back(piece);
        }
    }

    fn flip(&mut self, piece: Piece, random: &mut Random) -> Piece {
        match piece {
            Piece::Bytes(bytes) if !bytes.is_empty() => {
                let mut bytes = bytes.to_vec();
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << (random.next() % 8);
                self.flipped += 1;
                Piece::Bytes(bytes.into())
            }
            piece => piece,
        }
    }

    /// The process at this end closes the connection, or dies: the other end hears of it behind what was sent.
    pub fn close(&mut self, connection: ConnectionId, process: ProcessId, moment: &mut Moment) {
        let Some(end) = self.end_of(connection, process) else { return };
        if end == 0 && self.connections.get(&connection).is_some_and(|of| !of.stands) {
            // Given up before it stood: whoever took it hears nothing more.
            self.connections.remove(&connection);
            return;
        }
        self.put(connection, end, Piece::End, moment);
        if let Some(of) = self.connections.get_mut(&connection) {
            // What comes the other way meets a closed socket.
            of.streams[1 - end].ended = true;
        }
        self.over(connection, end);
    }

    /// This end needs nothing more.
    fn over(&mut self, connection: ConnectionId, end: usize) {
        let Some(of) = self.connections.get_mut(&connection) else { return };
        of.over[end] = true;
        if of.over == [true; 2] {
            self.connections.remove(&connection);
        }
    }

    /// Who gets a piece that arrives; none if its end is gone, and then the sender hears of that.
    pub fn arrived(
        &mut self,
        connection: ConnectionId,
        end: usize,
        piece: &Piece,
        is_alive: impl Fn(ProcessId) -> bool,
        moment: &mut Moment,
    ) -> Option<ProcessId> {
        let of = self.connections.get(&connection)?;
        let (to, from) = (of.ends[end], of.ends[1 - end]);
        if of.broken && !matches!(piece, Piece::End) {
            // Bytes that were overtaken by a reset: the lost suffix.
            return None;
        }
        if is_alive(to) {
            let told = matches!(piece, Piece::End) && !of.over[end];
            if told {
                self.over(connection, end);
            }
            return (told || matches!(piece, Piece::Bytes(_))).then_some(to);
        }
        // A machine whose process is another now answers with a reset.
        if !self.is_cut(to.machine, from.machine) {
            let at = moment.now + self.delay(to.machine, from.machine, moment.random);
            moment.later.push((at, NetEvent::Arrive { connection, end: 1 - end, piece: Piece::End }));
        }
        None
    }

    /// A process is gone. `said`: its system closes its connections; else nobody hears of it.
    pub fn process_gone(&mut self, process: ProcessId, said: bool, moment: &mut Moment) {
        let its: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, of)| of.ends.contains(&process)).map(|(id, _)| *id).collect();
        for connection in its {
            if said {
                self.close(connection, process, moment);
            } else if let Some(end) = self.end_of(connection, process) {
                self.over(connection, end);
            }
        }
        let is_gone = |of: &Connection| of.ends.contains(&process) && of.knocking;
        self.connections.retain(|_, of| !is_gone(of));
    }

    /// All connections between two machines break at once: what is on its way beyond some moment is lost.
    pub fn reset(&mut self, one: usize, other: usize, moment: &mut Moment) -> usize {
        let pair = BTreeSet::from([one, other]);
        let is_between = |of: &Connection| of.ends.iter().map(|end| end.machine).collect::<BTreeSet<_>>() == pair;
        let theirs: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, of)| is_between(of)).map(|(id, _)| *id).collect();
        for connection in &theirs {
            let Some(of) = self.connections.get_mut(connection) else { continue };
            of.broken = true;
            for end in 0..2 {
                of.streams[end].ended = true;
                of.streams[end].held.clear();
                let at = moment.now + moment.random.next() % (5 * MILLISECOND);
                moment.later.push((at, NetEvent::Arrive { connection: *connection, end, piece: Piece::End }));
            }
        }
        theirs.len()
    }

    /// A way is open again: what waited goes.
    pub fn open(&mut self, from: usize, to: usize, moment: &mut Moment) {
        self.way(from, to).cut = false;
        let waiting: Vec<(ConnectionId, usize)> = self
            .connections
            .iter()
            .flat_map(|(id, of)| (0..2).map(move |end| (*id, end, of)))
            .filter(|(_, end, of)| of.ends[*end].machine == from && of.ends[1 - *end].machine == to)
            .map(|(id, end, _)| (id, end))
            .collect();
        for (connection, end) in waiting {
            let held = self.connections.get_mut(&connection).map(|of| std::mem::take(&mut of.streams[end].held));
            for piece in held.into_iter().flatten() {
                self.put(connection, end, piece, moment);
            }
        }
    }

    pub fn ways(&self) -> impl Iterator<Item = ((usize, usize), Way)> {
        self.ways.iter().map(|(way, how)| (*way, *how))
    }
}
