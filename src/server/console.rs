//! The console: an operator sees what clients send, and types lines.
//!
//! What is shown waits in memory for a slow reader only up to a limit; what is beyond it is
//! counted. Nothing that a client sends reaches the operator's terminal as more than text.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::deadline::LINGER;
use super::tick::Tick;
use crate::close::CloseReason;
use crate::net::address::Address;
use crate::net::link::Link;
use crate::net::{Net, Readiness, Stream};
use crate::service::Service;
use crate::text::encoding::{Decoder, TextEncoding};
use crate::text::escape::{escape, without_end};
use crate::text::plural;

/// The keys of its two streams, out of the clients' reach.
const INPUT: usize = usize::MAX / 2;
const OUTPUT: usize = INPUT + 1;

/// The longest line an operator may type, in bytes, and how many may wait to be said.
const LONGEST: usize = 64 * 1024;
/// Bytes that may wait to be shown.
const UNSHOWN: usize = 1024 * 1024;
/// Bytes that may wait to be shown before answers to the operator are dropped, too.
const UNANSWERED: usize = 4 * UNSHOWN;
/// A line that goes on is shown in parts of so many bytes.
const PART: usize = 4096;
/// What has come of a line is shown after so long without its end.
const PAUSE: Duration = Duration::from_millis(200);

/// The console of a server.
#[derive(Debug)]
pub(super) struct Console<T> {
    /// None if it only shows.
    input: Option<Link<T>>,
    output: Link<T>,
    encoding: TextEncoding,
    ended: bool,
    /// A line that the operator hasn't finished.
    typed: Vec<u8>,
    /// The rest of a line that is too long is left out.
    skipping: bool,
    /// Texts for everybody, which wait until nobody holds up the room.
    unsaid: VecDeque<Vec<u8>>,
    /// Lines that clients, by their keys, haven't finished.
    heard: BTreeMap<usize, Part>,
    /// When one of these may have to be shown as it is.
    due: Option<Instant>,
    /// Lines that were not shown.
    lost: u64,
    /// When a server that has stopped waits no more for the rest to be shown.
    end: Option<Instant>,
    given_up: bool,
}

/// The beginning of a line, whose it is, and when the last of it came.
#[derive(Debug)]
struct Part {
    whose: String,
    decoder: Decoder,
    line: String,
    since: Instant,
}

impl<T: Stream> Console<T> {
    /// A console on these streams, for clients that write in this encoding.
    pub(super) fn open<N: Net<Stream = T>>(
        input: Option<T>,
        mut output: T,
        encoding: TextEncoding,
        net: &mut N,
    ) -> io::Result<Self> {
        let mut link = |mut stream: T| {
            net.register(&mut stream, INPUT)?;
            let mut link = Link::new(stream);
            // Of files the kernel doesn't tell that they can be read.
            link.ready.readable = true;
            Ok::<_, io::Error>(link)
        };
        let input = input.map(&mut link).transpose()?;
        net.register(&mut output, OUTPUT)?;
        Ok(Self {
            input,
            output: Link::new(output),
            encoding,
            ended: false,
            typed: Vec::new(),
            skipping: false,
            unsaid: VecDeque::new(),
            heard: BTreeMap::new(),
            due: None,
            lost: 0,
            end: None,
            given_up: false,
        })
    }

    /// Remembers what one of its streams has become ready for.
    pub(super) fn latch(&mut self, key: usize, ready: Readiness) {
        match (key, &mut self.input) {
            (INPUT, Some(input)) => input.latch(ready),
            (OUTPUT, _) => self.output.latch(ready),
            _ => {}
        }
    }

    /// Whether there may be something to read, and room for it.
    pub(super) fn wants_turn(&self) -> bool {
        let unsaid: usize = self.unsaid.iter().map(|text| text.len() + 1).sum();
        let readable = self
            .input
            .as_ref()
            .is_some_and(|input| input.ready.readable);
        readable && !self.ended && unsaid <= LONGEST
    }

    /// When lines without an end are to be shown, or there is no more waiting for its reader.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.due, self.end].into_iter().flatten().min()
    }

    /// Whether all is shown that ever will be.
    pub(super) fn is_done(&self) -> bool {
        let shown = self.output.outbox.is_empty() && self.lost == 0;
        shown || self.output.broken.is_some() || self.given_up
    }

    /// What is not shown by now never will be.
    pub(super) fn give_up(&mut self) {
        if !self.given_up && !self.output.outbox.is_empty() {
            let (first, second) = self.output.outbox.as_slices();
            let ends = |text| memchr::memchr_iter(b'\n', text).count() as u64;
            let lost = plural(self.lost + ends(first) + ends(second), "line");
            warn!("{lost} could not be shown: standard output isn't read");
        }
        self.given_up = true;
    }

    /// Tells, once, that nothing is shown any more.
    fn tell_of_failure(&mut self) {
        match self.output.broken {
            Some(CloseReason::Error(kind)) if !self.given_up => {
                warn!("standard output has failed ({kind}): nothing more is shown");
            }
            Some(_) if !self.given_up => info!("standard output is read no more"),
            _ => return,
        }
        self.given_up = true;
    }

    /// Nobody is left to be heard: who reads what is shown has a while for the rest.
    fn finish(&mut self, now: Instant) {
        let end = *self.end.get_or_insert(now + LINGER);
        if now >= end {
            self.give_up();
        }
    }

    /// A client has sent something.
    pub(super) fn hear(
        &mut self,
        key: usize,
        (id, peer): (u64, &Address),
        input: &[u8],
        now: Instant,
    ) {
        if self.output.outbox.len() > UNSHOWN {
            // Nothing of it would be shown, so that it isn't even decoded.
            let lines = memchr::memchr_iter(b'\n', input).count() as u64;
            let begun = self.heard.remove(&key).is_some();
            self.lost += lines.max(begun.into());
            return;
        }
        let whole = input.ends_with(b"\n");
        let mut part = self.heard.remove(&key).unwrap_or_else(|| Part {
            whose: format!("{id} {}", peer.name()),
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
            self.show_line(&part.whose, line);
            rest = after;
        }
        while rest.len() >= PART {
            let boundary = (0..=PART).rev().find(|&at| rest.is_char_boundary(at));
            let (line, after) = rest.split_at(boundary.unwrap_or(PART));
            self.show_line(&part.whose, line);
            rest = after;
        }
        if rest.is_empty() && whole && part.decoder.rests_after_a_line() {
            return;
        }
        let (done, fresh) = (part.line.len() - rest.len(), !rest.is_empty());
        part.line.drain(..done);
        part.line.shrink_to(PART);
        if fresh && done > 0 {
            part.since = now;
        }
        if fresh {
            self.due.get_or_insert(now + PAUSE);
        }
        self.heard.insert(key, part);
    }

    /// A datagram has come: it is whole. Its sender has no number.
    pub(super) fn hear_datagram(&mut self, from: &Address, input: &[u8]) {
        let whose = format!("0 {}", from.name());
        let text = self.encoding.decoder().decode(input, true);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        for line in text.split('\n') {
            self.show_line(&whose, line);
        }
    }

    /// A client has gone, or pauses: what it has said is shown to its end.
    pub(super) fn show_part(&mut self, key: usize) {
        if let Some(mut part) = self.heard.remove(&key) {
            part.line += &part.decoder.decode(b"", true);
            if !part.line.is_empty() {
                self.show_line(&part.whose, &part.line);
            }
        }
    }

    /// Shows lines that have had no end for a while. Of a letter that isn't whole the rest may come.
    fn show_parts(&mut self, now: Instant) {
        let paused = |part: &Part| now >= part.since + PAUSE;
        let waiting = self.heard.values().filter(|part| !part.line.is_empty());
        let waiting = waiting.filter(|part| !paused(part));
        self.due = waiting.map(|part| part.since + PAUSE).min();
        let mut heard = std::mem::take(&mut self.heard);
        for part in heard.values_mut() {
            if !part.line.is_empty() && paused(part) {
                let line = std::mem::take(&mut part.line);
                self.show_line(&part.whose, &line);
            }
        }
        self.heard = heard;
    }

    fn show_line(&mut self, whose: &str, line: &str) {
        if self.output.outbox.len() > UNSHOWN {
            self.lost += 1;
            return;
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        self.show(&format!("{whose}: {}", escape(line.as_bytes())));
    }

    /// Shows a text, a line or several.
    fn show(&mut self, text: &str) {
        if self.output.outbox.len() > UNANSWERED {
            self.lost += text.lines().count() as u64;
            return;
        }
        self.output.outbox.extend(text.as_bytes());
        self.output.outbox.push_back(b'\n');
    }

    /// Writes what is to be shown, as far as it is taken.
    fn flush(&mut self) {
        self.output.flush();
        self.tell_of_failure();
        if self.output.outbox.is_empty() && self.lost > 0 {
            let lost = plural(self.lost, "line");
            self.lost = 0;
            self.show(&format!("({lost} could not be shown)"));
            self.output.flush();
        }
    }

    /// What the operator has typed since the last time: lines, without their ends.
    fn read(&mut self) -> Vec<Vec<u8>> {
        let Some(input) = &mut self.input else {
            return Vec::new();
        };
        let mut buffer = [0; PART];
        match input.read(&mut buffer) {
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
        self.take_lines()
    }

    /// Takes the whole lines out of what was typed.
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
        lines.map(|line| without_end(line).to_vec()).collect()
    }

    /// What was typed, in the encoding of the clients; what that lacks are question marks.
    pub(super) fn encode(&self, typed: &[u8]) -> Vec<u8> {
        if self.encoding == TextEncoding::default() {
            return typed.to_vec();
        }
        let text = String::from_utf8_lossy(typed);
        self.encoding.encode_lossy(&text).into_owned()
    }

    /// A text for everybody has to wait.
    pub(super) fn defer(&mut self, text: Vec<u8>) {
        self.unsaid.push_back(text);
    }

    /// Whether texts wait already: another one has its place behind them.
    pub(super) fn defers(&self) -> bool {
        !self.unsaid.is_empty()
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// The console's part of a tick: commands are obeyed, and what there is to show is shown.
    pub(super) fn converse(&mut self) {
        let Some(mut console) = self.console.take() else {
            return;
        };
        while self.holding.is_empty()
            && let Some(text) = console.unsaid.pop_front()
        {
            if let Some(answer) = self.say(&text) {
                console.show(&answer);
            }
        }
        if console.wants_turn() {
            for line in console.read() {
                if let Some(answer) = self.obey(&line, &mut console) {
                    console.show(&answer);
                }
            }
        }
        if console.due.is_some_and(|due| due <= self.net.now()) {
            console.show_parts(self.net.now());
        }
        if self.is_stopping() && self.clients.is_empty() {
            console.finish(self.net.now());
        }
        console.flush();
        self.console = Some(console);
    }
}
