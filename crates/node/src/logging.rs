//! Logs: slog, for people on a terminal or as JSON lines for machines; dependencies' logs come in through the same
//! drain. Writing is asynchronous and bounded: past the bound lines are dropped, and the drop is reported.

use crate::config::{LogFormat, LogLevel};
use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, o};
use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

/// Lines waiting to be written. A node logs little; this is a burst, and past it the loss is reported.
const LINES_WAITING_MAX: usize = 8192;

/// The node's logger, and what must live as long as it is used.
pub struct Logging {
    pub log: Logger,
    _async: slog_async::AsyncGuard,
    _global: Option<slog_scope::GlobalLoggerGuard>,
}

/// Starts logging to standard error. `node` stands in every line.
pub fn start(format: LogFormat, level: LogLevel, node: &str) -> Logging {
    let level = match level {
        LogLevel::Trace => Level::Trace,
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warning => Level::Warning,
        LogLevel::Error => Level::Error,
        LogLevel::Critical => Level::Critical,
    };
    let (drain, guard) = match format {
        LogFormat::Json => asynchronous(json(io::stderr()).filter_level(level).fuse()),
        LogFormat::Term => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            asynchronous(Term { out: Mutex::new(io::stderr()), colour }.filter_level(level).fuse())
        }
    };
    let log = Logger::root(drain.fuse(), o!("node" => node.to_string()));
    let dependencies = Logger::root(Dependencies(log.clone()).fuse(), o!("actor" => "dependency"));
    let scope = slog_scope::set_global_logger(dependencies);
    let bridged = slog_stdlog::init_with_level(log_level(level)).is_ok();
    Logging { log, _async: guard, _global: bridged.then_some(scope) }
}

/// Dependencies speak `log`; below warnings they say nothing that a user of Kula acts on. What the HTTP library says of a
/// connection any client can provoke, as often as it likes: that comes in as debug.
struct Dependencies<D>(D);

impl<D: Drain<Ok = ()>> Drain for Dependencies<D> {
    type Ok = ();
    type Err = D::Err;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), D::Err> {
        if !record.level().is_at_least(Level::Warning) {
            return Ok(());
        }
        if ![record.tag(), record.module()].iter().any(|from| from.starts_with("actix_http")) {
            return self.0.log(record, values);
        }
        let lowered = slog::RecordStatic { location: record.location(), tag: record.tag(), level: Level::Debug };
        self.0.log(&Record::new(&lowered, record.msg(), record.kv()), values)
    }
}

fn log_level(level: Level) -> log::Level {
    if level.is_at_least(Level::Debug) { log::Level::Debug } else { log::Level::Warn }
}

fn asynchronous<D>(drain: D) -> (slog_async::Async, slog_async::AsyncGuard)
where
    D: Drain<Err = slog::Never, Ok = ()> + Send + 'static,
{
    let builder = slog_async::Async::new(drain).chan_size(LINES_WAITING_MAX);
    builder.overflow_strategy(slog_async::OverflowStrategy::DropAndReport).build_with_guard()
}

/// One JSON object a line: ts, level, node, actor, event, msg and the event's own keys.
fn json<W: Write + Send + 'static>(out: W) -> impl Drain<Ok = (), Err = slog::Never> + Send {
    let time = slog::FnValue(|_: &Record| humantime::format_rfc3339_micros(now()).to_string());
    let level = slog::FnValue(|record: &Record| level_word(record.level()));
    let message = slog::PushFnValue(|record: &Record, to| to.emit(record.msg()));
    // A line is one write: a node that is killed leaves no half of one.
    let drain = slog_json::Json::new(io::BufWriter::new(out)).set_newlines(true).set_flush(true);
    Mutex::new(drain.add_key_value(o!("ts" => time, "level" => level, "msg" => message)).build()).fuse()
}

#[allow(clippy::disallowed_methods, reason = "the time a line was written is not the database's time")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Critical => "CRIT",
        Level::Error => "ERROR",
        Level::Warning => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

/// `07:40:12.345 INFO n1 coordinator/0 message  key value  key value`.
struct Term<W> {
    out: Mutex<W>,
    colour: bool,
}

impl<W: Write> Drain for Term<W> {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record, values: &OwnedKVList) -> io::Result<()> {
        let mut pairs = Pairs::default();
        let serialized = values.serialize(record, &mut pairs).and_then(|()| record.kv().serialize(record, &mut pairs));
        let line = term_line(record, &pairs, self.colour, &humantime::format_rfc3339_millis(now()).to_string());
        let mut out = self.out.lock().map_err(|_| io::Error::other("a writer of the log panicked"))?;
        out.write_all(line.as_bytes())?;
        serialized.map_err(io::Error::other)
    }
}

fn term_line(record: &Record, pairs: &Pairs, colour: bool, rfc3339: &str) -> String {
    let (start, end) = match (colour, record.level()) {
        (false, _) => ("", ""),
        (true, Level::Critical | Level::Error) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::Warning) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::Info) => ("\x1b[32m", "\x1b[0m"),
        (true, Level::Debug | Level::Trace) => ("\x1b[2m", "\x1b[0m"),
    };
    let time = rfc3339.split('T').nth(1).unwrap_or(rfc3339).trim_end_matches('Z');
    let mut line = format!("{time} {start}{:<5}{end} {} {}", level_word(record.level()), pairs.node, pairs.actor);
    if !pairs.actor.is_empty() {
        line.push(' ');
    }
    // Writing to a String does not fail.
    line.write_fmt(*record.msg()).ok();
    // A mailbox line says everything in its message; its keys are for machines.
    if pairs.event != "mailbox" {
        for (key, value) in &pairs.rest {
            line.push_str("  ");
            line.push_str(key);
            line.push(' ');
            line.push_str(value);
        }
    }
    line.push('\n');
    line
}

/// The keys of a line: the three that have a place of their own, and the rest in the order they were written.
#[derive(Default)]
struct Pairs {
    node: String,
    actor: String,
    event: String,
    rest: Vec<(&'static str, String)>,
}

impl slog::Serializer for Pairs {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments) -> slog::Result {
        match key {
            "node" => self.node = value.to_string(),
            "actor" => self.actor = value.to_string(),
            "event" => self.event = value.to_string(),
            // slog hands over the last key first.
            _ => self.rest.insert(0, (key, value.to_string())),
        }
        Ok(())
    }

    fn emit_serde(&mut self, key: slog::Key, value: &dyn slog::SerdeValue) -> slog::Result {
        let text = serde_json::to_string(value.as_serde()).map_err(|_| slog::Error::Fmt(fmt::Error))?;
        self.emit_arguments(key, &format_args!("{text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Counts what reaches the operating system.
    struct Calls(Arc<Mutex<usize>>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            *self.0.lock().unwrap() += 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_one_write_so_that_a_kill_leaves_no_half_of_one() {
        let calls = Arc::new(Mutex::new(0));
        let log = Logger::root(json(Calls(calls.clone())).fuse(), o!("node" => "n1"));
        slog::info!(log, "replayed"; "actor" => "storage/commitlog", "event" => "replayed", "bytes" => 12);
        slog::warn!(log, "no connection"; "actor" => "transport", "event" => "link_down", "why" => "x".repeat(5_000));
        assert_eq!(*calls.lock().unwrap(), 2);
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_json_line_is_an_object_with_the_documented_keys() {
        let written = Written::default();
        let log = Logger::root(json(written.clone()), o!("node" => "n1"));
        slog::warn!(log, "a \"word\""; "actor" => "storage/shard/0", "event" => "flushed", "bytes" => 7);
        let value: serde_json::Value = serde_json::from_str(&written.text()).unwrap();
        let keys = ["level", "node", "actor", "event", "bytes", "msg"].map(|key| value[key].clone());
        assert_eq!(
            serde_json::json!(keys),
            serde_json::json!(["WARN", "n1", "storage/shard/0", "flushed", 7, "a \"word\""])
        );
        assert!(value["ts"].as_str().is_some_and(|ts| ts.ends_with('Z') && ts.len() == 27), "{value}");
    }

    #[test]
    fn no_client_can_fill_the_log_through_a_dependency() {
        let said = |level, from: &'static str| {
            let written = Written::default();
            let drain = json(written.clone()).filter_level(level).map(slog::Fuse);
            let drain = Dependencies(drain);
            let location = slog::RecordLocation { file: "", line: 1, column: 1, function: "", module: from };
            let record = slog::RecordStatic { location: &location, tag: from, level: Level::Error };
            let values: OwnedKVList = o!().into();
            drain.log(&Record::new(&record, &format_args!("stream error"), slog::b!()), &values).unwrap();
            let text = written.text();
            serde_json::from_str::<serde_json::Value>(&text).map(|line| line["level"].clone()).ok()
        };
        assert_eq!(said(Level::Info, "actix_http::h1::dispatcher"), None);
        assert_eq!(said(Level::Debug, "actix_http::h1::dispatcher"), Some("DEBUG".into()));
        assert_eq!(said(Level::Info, "actix_server::accept"), Some("ERROR".into()));
    }

    #[test]
    fn a_terminal_line_reads_from_left_to_right() {
        let written = Written::default();
        let log = Logger::root(Term { out: Mutex::new(written.clone()), colour: false }.fuse(), o!("node" => "n1"));
        slog::info!(log, "flushed"; "actor" => "storage/shard/0", "event" => "flushed", "tables" => 2, "bytes" => 7);
        slog::info!(log, "mailbox 4/8"; "actor" => "coordinator/0", "event" => "mailbox", "depth" => 4);
        let text = written.text();
        let lines: Vec<&str> = text.lines().map(|line| &line[13..]).collect();
        assert_eq!(
            lines,
            ["INFO  n1 storage/shard/0 flushed  tables 2  bytes 7", "INFO  n1 coordinator/0 mailbox 4/8"]
        );
    }
}
