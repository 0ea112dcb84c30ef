//! The console: an operator sees what clients send, talks to them, and gives commands.
//!
//! What is shown waits in memory for a slow reader only up to a limit; what is beyond it is
//! counted. Nothing that a client sends reaches the operator's terminal as more than text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use super::tick::{Client, Tick};
use crate::address::{Address, Role};
use crate::close::{CloseReason, plural};
use crate::link::Link;
use crate::net::{Net, Readiness, Stream};
use crate::service::Service;

/// The keys of its two streams, out of the clients' reach.
const INPUT: usize = usize::MAX / 2;
const OUTPUT: usize = INPUT + 1;

/// The longest line an operator may type, in bytes.
const LONGEST: usize = 64 * 1024;
/// Bytes that may wait to be shown.
const UNSHOWN: usize = 1024 * 1024;
/// Bytes that may wait to be shown before answers to the operator are dropped, too.
const UNANSWERED: usize = 4 * UNSHOWN;
/// A line that goes on is shown in parts of so many bytes.
const PART: usize = 4096;
/// What has come of a line is shown after so long without its end.
const PAUSE: Duration = Duration::from_millis(200);

/// What `/help` says.
const HELP: &str = "\
TEXT          say it to all clients
@ID TEXT      say it to one client
/list         who is here: id, peer, age, bytes in and out, bytes waiting, messages missed
/kick ID      close a client
/stats        what the server has done so far
/help         this
/quit, quit   stop the server
A TEXT that begins with / or @ is written with two of them.";

/// The console of a server.
#[derive(Debug)]
pub(super) struct Console<T> {
    input: Link<T>,
    output: Link<T>,
    ended: bool,
    /// A line that the operator hasn't finished.
    typed: Vec<u8>,
    /// The rest of a line that is too long is left out.
    skipping: bool,
    /// Lines that clients haven't finished.
    heard: BTreeMap<u64, Part>,
    /// When one of these may have to be shown as it is.
    due: Option<Instant>,
    /// Lines that were not shown.
    lost: u64,
}

/// The beginning of a line, and when the last of it came.
#[derive(Debug)]
struct Part {
    line: Vec<u8>,
    since: Instant,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    Say(Vec<u8>),
    Tell(u64, Vec<u8>),
    List,
    Kick(u64),
    Stats,
    Help,
    Quit,
    /// It can't be made out, for this reason.
    Unclear(String),
}

impl Wish {
    /// Reads a line, without its end.
    fn of(line: &[u8]) -> Self {
        if line.starts_with(b"//") || line.starts_with(b"@@") {
            return Self::Say(line[1..].to_vec());
        }
        if let Some(rest) = line.strip_prefix(b"@") {
            return match rest.iter().position(|&byte| byte == b' ') {
                Some(at) => match number(&rest[..at]) {
                    Some(id) => Self::Tell(id, rest[at + 1..].to_vec()),
                    None => Self::Unclear("expected a client's id after '@'".to_owned()),
                },
                None => Self::Unclear("expected @ID TEXT".to_owned()),
            };
        }
        let words: Vec<&[u8]> = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .collect();
        match words[..] {
            [] => Self::Nothing,
            [b"/list"] => Self::List,
            [b"/kick", id] => number(id).map_or_else(
                || Self::Unclear(format!("'{}' is not a client's id", escape(id))),
                Self::Kick,
            ),
            [b"/kick", ..] => Self::Unclear("expected /kick ID".to_owned()),
            [b"/stats"] => Self::Stats,
            [b"/help"] => Self::Help,
            [b"/quit" | b"quit"] => Self::Quit,
            [word, ..] if word.starts_with(b"/") => Self::Unclear(format!(
                "'{}' is not a command; /help lists them",
                escape(line)
            )),
            _ => Self::Say(line.to_vec()),
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A text as it can be shown on any terminal: what is not UTF-8, control characters and those that
/// turn the direction of writing appear as what they are in Rust.
fn escape(text: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let turns = matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if letter.is_control() || turns {
                shown.extend(letter.escape_default());
            } else {
                shown.push(letter);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string doesn't fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

impl<T: Stream> Console<T> {
    /// A console on these two streams.
    pub(super) fn open<N: Net<Stream = T>>(
        mut input: T,
        mut output: T,
        net: &mut N,
    ) -> io::Result<Self> {
        net.register(&mut input, INPUT)?;
        net.register(&mut output, OUTPUT)?;
        let mut console = Self {
            input: Link::new(input),
            output: Link::new(output),
            ended: false,
            typed: Vec::new(),
            skipping: false,
            heard: BTreeMap::new(),
            due: None,
            lost: 0,
        };
        console.input.ready.readable = true;
        Ok(console)
    }

    /// Remembers what one of its streams has become ready for.
    pub(super) fn latch(&mut self, key: usize, ready: Readiness) {
        match key {
            INPUT => self.input.latch(ready),
            OUTPUT => self.output.latch(ready),
            _ => {}
        }
    }

    /// Whether there may be something to read.
    pub(super) fn wants_turn(&self) -> bool {
        self.input.ready.readable && !self.ended
    }

    /// When lines without an end are to be shown.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// A client has sent something.
    pub(super) fn hear(&mut self, id: u64, peer: &Address, input: &[u8], now: Instant) {
        let part = self.heard.remove(&id);
        let mut line = part.map_or_else(Vec::new, |part| part.line);
        for piece in input.split_inclusive(|&byte| byte == b'\n') {
            line.extend(piece);
            if line.ends_with(b"\n") || line.len() >= PART {
                self.show_line(id, peer, &line);
                line.clear();
            }
        }
        if !line.is_empty() {
            self.due.get_or_insert(now + PAUSE);
            self.heard.insert(id, Part { line, since: now });
        }
    }

    /// A client has gone: what it has said is shown to its end.
    pub(super) fn forget(&mut self, id: u64, peer: &Address) {
        if let Some(part) = self.heard.remove(&id) {
            self.show_line(id, peer, &part.line);
        }
    }

    /// The clients that have left a line without its end for a while.
    fn pausing(&mut self, now: Instant) -> Vec<u64> {
        let paused = |part: &Part| now >= part.since + PAUSE;
        let waiting = self.heard.values().filter(|part| !paused(part));
        self.due = waiting.map(|part| part.since + PAUSE).min();
        let ids = self.heard.iter().filter(|(_, part)| paused(part));
        ids.map(|(id, _)| *id).collect()
    }

    fn show_line(&mut self, id: u64, peer: &Address, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.show(&format!("{id} {peer}: {}", escape(line)));
    }

    /// Shows a text, a line or several, unless too much waits already.
    fn show(&mut self, text: &str) {
        self.show_within(text, UNSHOWN);
    }

    fn show_within(&mut self, text: &str, most: usize) {
        if self.output.outbox.len() > most {
            self.lost += text.lines().count().max(1) as u64;
            return;
        }
        self.output.outbox.extend(text.as_bytes());
        self.output.outbox.push_back(b'\n');
    }

    /// Writes what is to be shown, as far as it is taken.
    fn flush(&mut self) {
        while self.output.ready.writable && !self.output.outbox.is_empty() {
            self.output.send_waiting();
            if self.output.outbox.is_empty() && self.lost > 0 {
                let lost = plural(self.lost, "line");
                self.lost = 0;
                self.show(&format!("({lost} could not be shown)"));
            }
        }
    }

    /// What the operator has typed since the last time: lines, without their ends.
    fn read(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; PART];
        match self.input.read(&mut buffer) {
            Ok(None) => {}
            Ok(Some(n)) if n > 0 => self.typed.extend(&buffer[..n]),
            // Its end; a terminal that is gone is no different.
            Ok(_) | Err(_) => {
                self.ended = true;
                if !self.typed.is_empty() {
                    self.typed.push(b'\n');
                }
            }
        }
        if self.skipping {
            let Some(end) = memchr::memchr(b'\n', &self.typed) else {
                self.typed.clear();
                return Vec::new();
            };
            self.skipping = false;
            self.typed.drain(..=end);
        }
        let whole = memchr::memrchr(b'\n', &self.typed).map_or(0, |at| at + 1);
        let rest = self.typed.split_off(whole);
        let typed = std::mem::replace(&mut self.typed, rest);
        if self.typed.len() > LONGEST {
            self.typed = Vec::new();
            self.skipping = true;
            self.show(&format!("a line has at most {LONGEST} bytes: left out"));
        }
        let lines = typed.split_inclusive(|&byte| byte == b'\n');
        lines
            .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
            .collect()
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// The console's part of a tick: commands are obeyed, and what there is to show is shown.
    pub(super) fn converse(&mut self) {
        let Some(mut console) = self.console.take() else {
            return;
        };
        if console.wants_turn() {
            for line in console.read() {
                if let Some(answer) = self.obey(&line) {
                    console.show_within(&answer, UNANSWERED);
                }
            }
        }
        self.show_parts(&mut console);
        console.flush();
        self.console = Some(console);
    }

    /// Shows lines that have no end for a while.
    fn show_parts(&mut self, console: &mut Console<N::Stream>) {
        let Some(due) = console.due else {
            return;
        };
        let now = self.net.now();
        if now < due {
            return;
        }
        for id in console.pausing(now) {
            if let Some(key) = self.find(id) {
                console.forget(id, &self.clients[key].address);
            }
        }
    }

    /// Does what the operator wants, and answers.
    fn obey(&mut self, line: &[u8]) -> Option<String> {
        match Wish::of(line) {
            Wish::Nothing => None,
            Wish::Say(text) => self.say(&text),
            Wish::Tell(id, text) => self.tell(id, &text),
            Wish::List => Some(self.list()),
            Wish::Kick(id) => self.kick(id),
            Wish::Stats => Some(self.statistics().join("\n")),
            Wish::Help => Some(HELP.to_owned()),
            Wish::Quit => {
                self.begin_stop();
                None
            }
            Wish::Unclear(why) => Some(why),
        }
    }

    /// Says a text to everybody.
    fn say(&mut self, text: &[u8]) -> Option<String> {
        if let Some(holding) = self.holding.first() {
            let id = self.clients[holding.key].id;
            return Some(format!("not said: client {id} holds up the room"));
        }
        if self.service.say(text) {
            return None;
        }
        let message = self.service.message(text);
        let keys: Vec<usize> = self.clients.iter().map(|(key, _)| key).collect();
        let sent = |key: &usize| self.tell_client(*key, &message);
        let deaf = keys.iter().map(sent).filter(|sent| !sent).count();
        (deaf > 0).then(|| format!("not said to {}, not reading", plural(deaf as u64, "client")))
    }

    /// Says a text to one client.
    fn tell(&mut self, id: u64, text: &[u8]) -> Option<String> {
        let Some(key) = self.find(id) else {
            return Some(format!("there is no client {id}"));
        };
        if self.clients[key].role == Role::Publish {
            return Some(format!("client {id} only publishes"));
        }
        let message = self.service.message(text);
        let told = self.tell_client(key, &message);
        (!told).then(|| format!("client {id} doesn't read: not said"))
    }

    /// Sends a message between those of the service, if not too much waits already.
    fn tell_client(&mut self, key: usize, message: &[u8]) -> bool {
        let connection = &mut self.clients[key].connection;
        if connection.waiting() as u64 > self.limits.high_water || !connection.is_serving() {
            return false;
        }
        connection.tell(&self.service, message);
        self.after(key);
        true
    }

    fn kick(&mut self, id: u64) -> Option<String> {
        let Some(key) = self.find(id) else {
            return Some(format!("there is no client {id}"));
        };
        let connection = &mut self.clients[key].connection;
        connection.part(&mut self.service, CloseReason::Kicked);
        self.after(key);
        None
    }

    fn find(&self, id: u64) -> Option<usize> {
        let mut clients = self.clients.iter();
        clients
            .find(|(_, client)| client.id == id)
            .map(|(key, _)| key)
    }

    /// A table of the clients.
    fn list(&self) -> String {
        let mut lines = vec![format!(
            "{:>6}  {:<24} {:>8} {:>12} {:>12} {:>10} {:>8}",
            "id", "peer", "age", "in", "out", "waiting", "missed"
        )];
        let mut clients: Vec<&Client<_, _>> = self.clients.iter().map(|(_, c)| c).collect();
        clients.sort_by_key(|client| client.id);
        let now = self.net.now();
        for client in clients {
            let age = Duration::from_secs(now.duration_since(client.opened).as_secs());
            let (received, sent) = client.connection.traffic();
            let (waiting, missed) = (self.backlog(client), self.owed(client).1);
            lines.push(format!(
                "{:>6}  {:<24} {:>8} {received:>12} {sent:>12} {waiting:>10} {missed:>8}",
                client.id,
                client.address.to_string(),
                humantime::format_duration(age).to_string(),
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_command_is_understood() {
        let say = |text: &str| Wish::Say(text.into());
        for (line, wish) in [
            ("", Wish::Nothing),
            ("  ", Wish::Nothing),
            ("hello all", say("hello all")),
            ("  indented", say("  indented")),
            ("//etc", say("/etc")),
            ("@@home", say("@home")),
            ("quit it", say("quit it")),
            ("@7 hello you", Wish::Tell(7, "hello you".into())),
            ("@7 ", Wish::Tell(7, "".into())),
            ("/list", Wish::List),
            ("/kick 3", Wish::Kick(3)),
            (" /stats ", Wish::Stats),
            ("/help", Wish::Help),
            ("/quit", Wish::Quit),
            ("quit", Wish::Quit),
        ] {
            assert_eq!(Wish::of(line.as_bytes()), wish, "{line:?}");
        }
    }

    #[test]
    fn what_is_unclear_is_said() {
        for (line, why) in [
            ("@7", "expected @ID TEXT"),
            ("@x y", "expected a client's id"),
            ("/kick", "expected /kick ID"),
            ("/kick me", "'me' is not a client's id"),
            ("/kick 1 2", "expected /kick ID"),
            ("/list all", "'/list all' is not a command"),
            ("/shout", "'/shout' is not a command"),
        ] {
            match Wish::of(line.as_bytes()) {
                Wish::Unclear(text) => assert!(text.contains(why), "{line}: {text}"),
                wish => panic!("{line}: {wish:?}"),
            }
        }
    }

    #[test]
    fn no_client_drives_the_terminal() {
        assert_eq!(escape("你好 é 👍🏽".as_bytes()), "你好 é 👍🏽");
        assert_eq!(
            escape(b"\x1b[2J\x07\r\0\x7f"),
            "\\u{1b}[2J\\u{7}\\r\\u{0}\\u{7f}"
        );
        assert_eq!(escape(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(
            escape("a\u{9b}b\u{202e}c".as_bytes()),
            "a\\u{9b}b\\u{202e}c"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_printable(text: Vec<u8>) {
            prop_assert!(!escape(&text).chars().any(char::is_control));
        }
    }
}
