//! The console: the phase of the tick in which an operator sees clients' input, and types lines.
//!
//! Lines wait in memory for a slow reader, up to a limit; lines beyond it are dropped and counted.
//! Control characters in a client's input are escaped before they reach the operator's terminal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::clients::Clients;
use super::limits::LINGER;
use super::operator::{self, Command};
use crate::close::CloseReason;
use crate::net::address::Address;
use crate::net::link::Link;
use crate::net::{Net, Readiness, Stream};
use crate::peer::Peer;
use crate::service::Service;
use crate::text::encoding::{Decoder, TextEncoding};
use crate::text::escape::{escape, without_line_end};
use crate::text::plural;

/// The keys of its two streams, out of reach of the table of clients.
const INPUT: usize = usize::MAX / 2;
const OUTPUT: usize = INPUT + 1;

/// The longest line that an operator may type, in bytes; also the most bytes of deferred texts.
const LONGEST: usize = 64 * 1024;
/// Bytes waiting for standard output beyond which clients' lines are dropped.
const UNSHOWN: usize = 1024 * 1024;
/// Bytes waiting beyond which answers to the operator are dropped, too.
const UNANSWERED: usize = 4 * UNSHOWN;
/// Length in bytes from which an incomplete line is shown in parts.
const PART: usize = 4096;
/// Time after which an incomplete line is shown.
const PAUSE: Duration = Duration::from_millis(200);

/// The phase, and what it remembers between ticks.
#[derive(Debug)]
pub(super) struct Console<T> {
    /// `None` for a console that only shows clients' input.
    input: Option<Link<T>>,
    output: Link<T>,
    encoding: TextEncoding,
    /// True once standard input has ended.
    input_ended: bool,
    /// The beginning of a line that the operator has not finished.
    typed: Vec<u8>,
    /// True while the rest of a line that is too long is left out.
    skipping: bool,
    /// Texts for all clients, which wait until no client holds up the room.
    deferred: VecDeque<Vec<u8>>,
    /// By client's key: the line that the client has not finished.
    parts: BTreeMap<usize, Part>,
    /// The times since when these have waited, of those that are not empty, and their keys: the first
    /// is the next to be shown although it is incomplete, and the others cost nothing.
    waiting: BTreeSet<(Instant, usize)>,
    /// Lines that were dropped.
    lost: u64,
    /// The time at which a stopped server gives up on the reader of standard output.
    end: Option<Instant>,
    /// True once lines that are not shown yet never will be.
    given_up: bool,
}

/// The beginning of a client's line.
#[derive(Debug)]
struct Part {
    /// Number and address of the client.
    source: String,
    decoder: Decoder,
    line: String,
    /// The time at which its first bytes were received.
    since: Instant,
}

impl<T: Stream> Console<T> {
    /// A console on these streams, for clients that write in this encoding.
    ///
    /// # Errors
    /// If one of the streams can't be registered.
    pub(super) fn open<N: Net<Stream = T>>(
        input: Option<T>,
        mut output: T,
        encoding: TextEncoding,
        net: &mut N,
    ) -> io::Result<Self> {
        let mut link = |mut stream: T| {
            net.register(&mut stream, INPUT)?;
            let mut link = Link::new(stream);
            // The kernel sends no event for a file that can be read.
            link.ready.readable = true;
            Ok::<_, io::Error>(link)
        };
        let input = input.map(&mut link).transpose()?;
        net.register(&mut output, OUTPUT)?;
        Ok(Self {
            input,
            output: Link::new(output),
            encoding,
            input_ended: false,
            typed: Vec::new(),
            skipping: false,
            deferred: VecDeque::new(),
            parts: BTreeMap::new(),
            waiting: BTreeSet::new(),
            lost: 0,
            end: None,
            given_up: false,
        })
    }

    /// Remembers the readiness of one of its streams.
    pub(super) fn latch(&mut self, key: usize, ready: Readiness) {
        match (key, &mut self.input) {
            (INPUT, Some(input)) => input.latch(ready),
            (OUTPUT, _) => self.output.latch(ready),
            _ => {}
        }
    }

    /// True if there may be something to read, and room for it.
    pub(super) fn has_work(&self) -> bool {
        let deferred: usize = self.deferred.iter().map(|text| text.len() + 1).sum();
        let readable = self
            .input
            .as_ref()
            .is_some_and(|input| input.ready.readable);
        readable && !self.input_ended && deferred <= LONGEST
    }

    /// The time at which an incomplete line is shown, or the reader of standard output given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.waiting.first().map(|(since, _)| *since + PAUSE);
        [due, self.end].into_iter().flatten().min()
    }

    /// True if no more lines will be shown of those that wait now.
    pub(super) fn is_done(&self) -> bool {
        let shown = self.output.outbox.is_empty() && self.lost == 0;
        shown || self.output.broken.is_some() || self.given_up
    }

    /// Gives up on the lines that are not shown yet.
    pub(super) fn give_up(&mut self) {
        if !self.given_up && !self.output.outbox.is_empty() {
            let (first, second) = self.output.outbox.as_slices();
            let ends = |text| memchr::memchr_iter(b'\n', text).count() as u64;
            let lost = plural(self.lost + ends(first) + ends(second), "line");
            warn!("{lost} could not be shown: standard output isn't read");
        }
        self.given_up = true;
    }

    /// Logs, once, that standard output has failed.
    fn log_failure(&mut self) {
        match self.output.broken {
            Some(CloseReason::Error(kind)) if !self.given_up => {
                warn!("standard output has failed ({kind}): nothing more is shown");
            }
            Some(_) if !self.given_up => info!("standard output is read no more"),
            _ => return,
        }
        self.given_up = true;
    }

    /// Gives the reader of standard output [`LINGER`] for the waiting lines, as no client is left.
    pub(super) fn finish(&mut self, now: Instant) {
        self.flush();
        let end = *self.end.get_or_insert(now + LINGER);
        if now >= end {
            self.give_up();
        }
    }

    /// Shows a client's input, line by line. A line that is incomplete waits for its rest.
    pub(super) fn show_input(&mut self, key: usize, peer: &Peer<'_>, input: &[u8], now: Instant) {
        if self.output.outbox.len() > UNSHOWN {
            // It would be dropped, and need not even be decoded.
            let lines = memchr::memchr_iter(b'\n', input).count() as u64;
            let begun = self.take_part(key).is_some();
            self.lost += lines.max(begun.into());
            return;
        }
        let whole = input.ends_with(b"\n");
        let mut part = self.take_part(key).unwrap_or_else(|| Part {
            source: format!("{} {}", peer.id, peer.address.name()),
            decoder: self.encoding.decoder(),
            line: String::new(),
            since: now,
        });
        if part.line.is_empty() {
            part.since = now;
        }
        part.line += &part.decoder.decode(input, false);
        let mut rest = part.line.as_str();
        while let Some((line, after)) = rest.split_once('\n') {
            self.show_line(&part.source, line);
            rest = after;
        }
        while rest.len() >= PART {
            let boundary = (0..=PART).rev().find(|&at| rest.is_char_boundary(at));
            let (line, after) = rest.split_at(boundary.unwrap_or(PART));
            self.show_line(&part.source, line);
            rest = after;
        }
        if rest.is_empty() && whole && part.decoder.is_stateless_after_a_line() {
            return;
        }
        let (done, fresh) = (part.line.len() - rest.len(), !rest.is_empty());
        part.line.drain(..done);
        part.line.shrink_to(PART);
        if fresh && done > 0 {
            part.since = now;
        }
        if fresh {
            self.waiting.insert((part.since, key));
        }
        self.parts.insert(key, part);
    }

    /// Takes the line that a client has not finished out of the lists.
    fn take_part(&mut self, key: usize) -> Option<Part> {
        let part = self.parts.remove(&key)?;
        self.waiting.remove(&(part.since, key));
        Some(part)
    }

    /// Shows a datagram, which is always complete. Its sender has no number.
    pub(super) fn show_datagram(&mut self, from: &Address, input: &[u8]) {
        let source = format!("0 {}", from.name());
        let text = self.encoding.decoder().decode(input, true);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        for line in text.split('\n') {
            self.show_line(&source, line);
        }
    }

    /// Shows the incomplete line of a client that was closed.
    pub(super) fn show_rest(&mut self, key: usize) {
        if let Some(mut part) = self.take_part(key) {
            part.line += &part.decoder.decode(b"", true);
            if !part.line.is_empty() {
                self.show_line(&part.source, &part.line);
            }
        }
    }

    /// Shows the lines that have been incomplete for [`PAUSE`]. The bytes of an incomplete character
    /// still wait.
    fn show_parts(&mut self, now: Instant) {
        while let Some(&(since, key)) = self.waiting.first()
            && since + PAUSE <= now
        {
            #[cfg(test)]
            crate::testing::work::step();
            if let Some(mut part) = self.take_part(key) {
                let line = std::mem::take(&mut part.line);
                self.show_line(&part.source, &line);
                self.parts.insert(key, part);
            }
        }
    }

    fn show_line(&mut self, source: &str, line: &str) {
        if self.output.outbox.len() > UNSHOWN {
            self.lost += 1;
            return;
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        self.show(&format!("{source}: {}", escape(line.as_bytes())));
    }

    /// Shows a text of one or more lines.
    fn show(&mut self, text: &str) {
        if self.output.outbox.len() > UNANSWERED {
            self.lost += text.lines().count() as u64;
            return;
        }
        self.output.outbox.extend(text.as_bytes());
        self.output.outbox.push_back(b'\n');
    }

    /// Writes as many of the waiting lines as standard output takes.
    fn flush(&mut self) {
        self.output.flush();
        self.log_failure();
        if self.output.outbox.is_empty() && self.lost > 0 {
            let lost = plural(self.lost, "line");
            self.lost = 0;
            self.show(&format!("({lost} could not be shown)"));
            self.output.flush();
        }
    }

    /// Reads what the operator has typed: complete lines, without their ends.
    fn read(&mut self) -> Vec<Vec<u8>> {
        let Some(input) = &mut self.input else {
            return Vec::new();
        };
        let mut buffer = [0; PART];
        match input.read(&mut buffer) {
            Ok(None) => {}
            Ok(Some(n)) if n > 0 => self.typed.extend(&buffer[..n]),
            Ok(_) => self.end_input(),
            Err(e) => {
                let cause = e.kind();
                warn!("standard input has failed ({cause}): no more commands are read");
                self.end_input();
            }
        }
        self.take_lines()
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        if !self.typed.is_empty() {
            self.typed.push(b'\n');
        }
    }

    /// Takes the complete lines out of what was typed.
    fn take_lines(&mut self) -> Vec<Vec<u8>> {
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
        lines.map(|line| without_line_end(line).to_vec()).collect()
    }

    /// Executes the lines that the operator has typed, and writes the lines that wait to be shown.
    /// `report` makes the text of the statistics. Returns the number of requests to stop.
    pub(super) fn run<S: Service, N: Net<Stream = T>>(
        &mut self,
        net: &N,
        clients: &mut Clients<S, T>,
        report: &dyn Fn(&Clients<S, T>) -> String,
    ) -> usize {
        while !clients.is_held()
            && let Some(text) = self.deferred.pop_front()
        {
            self.show_answer(operator::say(&text, clients));
        }
        let mut stops = 0;
        if self.has_work() {
            for line in self.read() {
                let command = self.encode(Command::parse(&line));
                stops += usize::from(command == Command::Quit);
                let answer = self.execute(command, net, clients, report);
                self.show_answer(answer);
            }
        }
        if !self.waiting.is_empty() {
            self.show_parts(net.now());
        }
        self.flush();
        stops
    }

    /// Executes a command; returns the answer to the operator. A text for all clients waits while
    /// one of them holds up the room.
    fn execute<S: Service, N: Net<Stream = T>>(
        &mut self,
        command: Command,
        net: &N,
        clients: &mut Clients<S, T>,
        report: &dyn Fn(&Clients<S, T>) -> String,
    ) -> Option<String> {
        match command {
            Command::Say(text) if clients.is_held() || !self.deferred.is_empty() => {
                self.deferred.push_back(text);
                let id = clients.holder()?.peer().id;
                Some(format!(
                    "client {id} holds up the room: said when it lets go"
                ))
            }
            Command::Stats => Some(report(clients)),
            command => operator::execute(command, clients, net.now()),
        }
    }

    /// A command with its text in the encoding of the clients. Characters that it lacks become
    /// question marks.
    fn encode(&self, command: Command) -> Command {
        let encode = |typed: Vec<u8>| {
            if self.encoding == TextEncoding::default() {
                return typed;
            }
            let text = String::from_utf8_lossy(&typed);
            self.encoding.encode_lossy(&text).into_owned()
        };
        match command {
            Command::Say(text) => Command::Say(encode(text)),
            Command::Tell(id, text) => Command::Tell(id, encode(text)),
            other => other,
        }
    }

    fn show_answer(&mut self, answer: Option<String>) {
        if let Some(answer) = answer {
            self.show(&answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::address::Role;
    use crate::server::fixture::{self, TestNet};
    use crate::service::{Broadcast, Echo, Room};
    use crate::testing::work::steps;
    use crate::testing::{Answer, Script};

    fn console(net: &mut TestNet, typed: &str) -> Console<Script> {
        let mut input = Script::default();
        input.on_read(Answer::Give(typed.into()));
        let (input, output) = (Some(input), Script::default());
        Console::open(input, output, TextEncoding::default(), net).unwrap()
    }

    /// One pass; returns the lines shown, and the number of stops asked for.
    fn run<S: Service>(
        console: &mut Console<Script>,
        net: &TestNet,
        clients: &mut Clients<S, Script>,
    ) -> (String, usize) {
        let stops = console.run(net, clients, &|_| "statistics".to_owned());
        let shown = console.output.stream.take_sent();
        (String::from_utf8(shown).unwrap(), stops)
    }

    impl Console<Script> {
        /// Takes out the text that was shown.
        pub(in crate::server) fn take_shown(&mut self) -> String {
            String::from_utf8(self.output.stream.take_sent()).unwrap()
        }
    }

    #[test]
    fn commands_are_executed_and_answered() {
        let mut net = TestNet::new();
        let typed = "hi\n@1 you\n/stats\n/kick 2\n/kick 9\n/quit\nquit\n";
        let mut console = console(&mut net, typed);
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let keys = [(); 2].map(|()| fixture::admit(&mut clients, &mut net, Role::Both, false));
        let (shown, stops) = run(&mut console, &net, &mut clients);
        assert_eq!(shown, "statistics\nthere is no client 9\n");
        assert_eq!(stops, 2);
        assert_eq!(fixture::sent(&mut clients, keys[0]), "hi\nyou\n");
        let closing = clients.get(keys[1]).connection().closing();
        assert_eq!(closing, Some(CloseReason::Kicked));
    }

    #[test]
    fn input_is_shown_line_by_line_and_an_incomplete_line_after_a_pause() {
        let mut net = TestNet::new();
        let mut console = console(&mut net, "");
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let key = fixture::admit(&mut clients, &mut net, Role::Both, false);
        let peer = clients.get(key).peer();
        console.show_input(key, &peer, b"one\r\ntw\x1b", net.now.get());
        let (shown, _) = run(&mut console, &net, &mut clients);
        assert_eq!(shown, "1 127.0.0.1:5000: one\n");
        net.pass(PAUSE);
        assert_eq!(console.deadline(), Some(net.now.get()));
        let (shown, _) = run(&mut console, &net, &mut clients);
        assert_eq!(shown, "1 127.0.0.1:5000: tw\\u{1b}\n");
    }

    /// The next client with the key does not go on with the line of another.
    #[test]
    fn line_of_a_closed_client_is_shown_once_and_then_forgotten() {
        let mut net = TestNet::new();
        let mut console = console(&mut net, "");
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        for part in ["on", "tw"] {
            let key = fixture::admit(&mut clients, &mut net, Role::Both, false);
            let peer = clients.get(key).peer();
            console.show_input(key, &peer, part.as_bytes(), net.now.get());
            assert_eq!(run(&mut console, &net, &mut clients).0, "");
            clients.touch(key, |connection, service| {
                connection.abort(service, CloseReason::Reset);
            });
            clients.reap(|| net.now.get(), |key| console.show_rest(key));
            let (shown, _) = run(&mut console, &net, &mut clients);
            assert!(
                shown.ends_with(&format!(" 127.0.0.1:5000: {part}\n")),
                "{shown}"
            );
            console.show_rest(key);
            net.pass(2 * PAUSE);
            assert_eq!(run(&mut console, &net, &mut clients).0, "");
            assert!(console.parts.is_empty() && console.is_done());
        }
    }

    /// A failure of standard output, or a reader that reads no more, is said once.
    #[test]
    fn output_that_fails_is_reported_once() {
        for give_up in [false, true] {
            let lines = fixture::logged(|| {
                let mut net = TestNet::new();
                let mut console = console(&mut net, "");
                let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
                let kind = io::ErrorKind::StorageFull;
                console.output.stream.stall(true);
                if !give_up {
                    console.output.stream.on_write(Answer::Fail(kind));
                }
                for _ in 0..3 {
                    console.show("text");
                    run(&mut console, &net, &mut clients);
                    if give_up {
                        console.finish(net.now.get());
                        net.pass(LINGER);
                    }
                }
                assert!(console.is_done());
            });
            assert_eq!(lines.len(), 1, "{lines:?}");
        }
    }

    /// Every unfinished line was looked at whenever one was due.
    #[test]
    fn unfinished_lines_that_are_not_due_cost_nothing() {
        let mut net = TestNet::new();
        let mut console = console(&mut net, "");
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let mut begin = |console: &mut Console<Script>, net: &mut TestNet, text: &str| {
            let key = fixture::admit(&mut clients, net, Role::Both, false);
            let peer = clients.get(key).peer();
            console.show_input(key, &peer, text.as_bytes(), net.now.get());
            key
        };
        let [first, second] = ["one", "two"].map(|text| begin(&mut console, &mut net, text));
        let (later, rest) = (PAUSE / 4, PAUSE / 4 * 3);
        net.pass(later);
        for _ in 0..1000 {
            begin(&mut console, &mut net, "later");
        }
        console.show_rest(second);
        net.pass(rest);
        assert_eq!(console.deadline(), Some(net.now.get()));
        assert_eq!(steps(|| console.show_parts(net.now.get())), 1);
        assert_eq!(console.deadline(), Some(net.now.get() + later));
        assert!(console.parts[&first].line.is_empty());
        net.pass(later);
        assert_eq!(steps(|| console.show_parts(net.now.get())), 1000);
        assert_eq!(console.deadline(), None);
    }

    #[test]
    fn text_for_all_waits_while_a_client_holds_up_the_room() {
        let mut net = TestNet::new();
        let mut console = console(&mut net, "hello\n");
        let service = Broadcast::with_segments(Room::default(), 1 << 10);
        let mut clients = fixture::clients(service, &Config::default(), &net);
        let sender = fixture::admit(&mut clients, &mut net, Role::Both, false);
        let reader = fixture::admit(&mut clients, &mut net, Role::Both, true);
        while !clients.is_held() {
            fixture::send(&mut clients, sender, &[b'\n'; 10_000]);
        }
        let (shown, _) = run(&mut console, &net, &mut clients);
        assert_eq!(shown, "client 2 holds up the room: said when it lets go\n");
        clients.touch(reader, |connection, service| {
            connection.abort(service, CloseReason::Reset);
        });
        clients.reap(|| net.now.get(), |_| {});
        run(&mut console, &net, &mut clients);
        clients.publish();
        assert_eq!(fixture::sent(&mut clients, sender), "hello\n");
    }

    #[test]
    fn lines_that_a_slow_reader_of_output_does_not_take_are_counted() {
        let mut net = TestNet::new();
        let mut console = console(&mut net, "");
        let mut clients = fixture::clients(Echo::new(), &Config::default(), &net);
        let key = fixture::admit(&mut clients, &mut net, Role::Both, false);
        console.output.stream.stall(true);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..2000 {
            let peer = clients.get(key).peer();
            console.show_input(key, &peer, &line, net.now.get());
        }
        console.output.stream.stall(false);
        let (shown, _) = run(&mut console, &net, &mut clients);
        let lines = shown.lines().count() - 1;
        assert!((1000..1100).contains(&lines), "a megabyte waits: {lines}");
        let lost = format!("\n({} lines could not be shown)\n", 2000 - lines);
        assert!(shown.ends_with(&lost), "{}", &shown[shown.len() - 60..]);
        assert!(console.is_done());
    }
}
