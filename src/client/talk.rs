//! The two directions of a connection, in one loop.

use std::io;
use std::time::{Duration, Instant};

use log::info;

use super::stdio::{Input, Output};
use super::{Connect, ConnectError};
use crate::net::error::cause;
use crate::net::{Event, Net, Poller, Readiness};
use crate::text::template::{TemplateRenderer, Who};

const SERVER: usize = 0;
const INPUT: usize = 1;
const OUTPUT: usize = 2;

/// Datagrams received before others are sent.
const MANY: usize = 64;

/// With more than this unsent in one direction no more is read for it.
pub(super) const ENOUGH: usize = 256 * 1024;

/// How long after the end of what is sent answers may take that have no end themselves.
const ANSWERING: Duration = Duration::from_secs(1);

/// A server, whatever it is sent.
pub(super) trait Partner {
    /// Whether it can say that it has said all: a stream has an end, and may be cut anywhere, a
    /// datagram comes whole, and nobody knows of the next.
    const ENDS: bool;

    fn register(&mut self, net: &mut Poller, key: usize) -> io::Result<()>;

    fn latch(&mut self, ready: Readiness);

    fn is_readable(&self) -> bool;

    /// Whether more could be sent at once.
    fn can_send(&self) -> bool;

    /// How much waits to be sent, roughly in bytes; 0: nothing.
    fn waiting(&self) -> usize;

    /// Takes a text of its own to be sent as it stands.
    fn say(&mut self, text: &[u8]) -> Result<(), ConnectError>;

    /// Takes input to be sent.
    fn take(&mut self, input: &[u8]) -> Result<(), ConnectError>;

    /// There is no more input.
    fn finish(&mut self) -> Result<(), ConnectError>;

    /// Sends what it can; whether something went out.
    fn send(&mut self) -> Result<bool, ConnectError>;

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError>;
}

/// What there was to receive.
pub(super) enum Received {
    Nothing,
    /// So many bytes, of a datagram perhaps none.
    Some(usize),
    End,
}

/// The two directions of a connection.
pub(super) struct Talk<P> {
    net: Poller,
    name: String,
    partner: P,
    input: Input,
    output: Output,
    timeout: Option<Duration>,
    /// When something was last sent, received or shown.
    since: Instant,
    /// Something has come.
    heard: bool,
    /// Nothing more is sent and received, and why that is so.
    ended: Option<Result<(), ConnectError>>,
    /// Somebody has interrupted it.
    stopped: bool,
    buffer: Vec<u8>,
}

impl<P: Partner> Talk<P> {
    pub(super) fn new(connect: &Connect, partner: P, who: &Who) -> Result<Self, ConnectError> {
        let setup = |e: io::Error| ConnectError::new("cannot start", cause(&e));
        let mut talk = Self::open(connect, partner, who).map_err(setup)?;
        for text in &connect.send {
            let mut speaker = TemplateRenderer::new(text.clone());
            speaker.set_time(talk.net.time_of_day());
            talk.partner.say(speaker.say(Some(who)))?;
        }
        if talk.input.is_over() {
            talk.partner.finish()?;
        }
        if talk.input.is_typed() && talk.output.is_shown() {
            info!("connected to {}; quit or Ctrl-D leaves", talk.name);
        }
        Ok(talk)
    }

    fn open(connect: &Connect, mut partner: P, who: &Who) -> io::Result<Self> {
        let mut net = Poller::new(Vec::new(), Vec::new())?;
        partner.register(&mut net, SERVER)?;
        // What comes may have come by now.
        partner.latch(Readiness {
            readable: true,
            ..Readiness::default()
        });
        let input = if connect.send.is_empty() {
            Input::open(&mut net, INPUT)?
        } else {
            Input::closed()
        };
        Ok(Self {
            name: who.peer.to_string(),
            partner,
            input,
            output: Output::open(connect, &mut net, OUTPUT)?,
            timeout: connect.timeout,
            since: net.now(),
            heard: false,
            ended: None,
            stopped: false,
            buffer: vec![0; ENOUGH],
            net,
        })
    }

    /// Talks until that is over.
    pub(super) fn run(mut self) -> Result<(), ConnectError> {
        while !self.is_over() {
            self.wait()?;
            self.exchange();
            self.show()?;
            self.judge();
        }
        match self.ended {
            // Who read it has had enough, and asks for no more.
            Some(result) if !self.output.is_deaf() => result,
            _ => Ok(()),
        }
    }

    fn is_over(&self) -> bool {
        let left = self.input.leaving && self.partner.waiting() == 0;
        let said = left || self.ended.is_some();
        self.stopped || self.output.is_deaf() || (said && self.output.is_empty())
    }

    fn can_read(&self) -> bool {
        self.input.is_readable() && self.partner.waiting() <= ENOUGH && self.ended.is_none()
    }

    fn can_receive(&self) -> bool {
        self.partner.is_readable() && self.output.has_room() && self.ended.is_none()
    }

    /// Waits for what can be moved, or for the end of patience.
    fn wait(&mut self) -> Result<(), ConnectError> {
        let sends = self.partner.can_send() && self.ended.is_none();
        let timeout = if self.can_read() || self.can_receive() || sends {
            Some(Duration::ZERO)
        } else {
            self.deadline()
                .map(|at| at.saturating_duration_since(self.net.now()))
        };
        let mut events = Vec::new();
        let waited = self.net.wait(timeout, &mut events);
        waited.map_err(|e| ConnectError::new("cannot wait for events", cause(&e)))?;
        for event in events {
            match event {
                Event::Client(SERVER, ready) => self.partner.latch(ready),
                Event::Client(INPUT, ready) => self.input.latch(ready),
                Event::Client(OUTPUT, ready) => self.output.latch(ready),
                Event::Stop => self.stopped = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves what there is to move, in both directions.
    fn exchange(&mut self) {
        let read = if self.can_read() { self.read() } else { Ok(()) };
        // What is in front of what can't be sent still goes.
        let over = self.ended.is_some();
        let sent = if over { Ok(false) } else { self.partner.send() };
        match sent {
            Ok(true) => self.since = self.net.now(),
            Ok(false) => {}
            Err(e) => self.end(Err(e)),
        }
        if let Err(e) = read {
            self.end(Err(e));
        }
        // Of datagrams there may be many.
        let most = if P::ENDS { 1 } else { MANY };
        for _ in 0..most {
            if self.can_receive() {
                self.receive();
            }
        }
    }

    fn read(&mut self) -> Result<(), ConnectError> {
        let typed = self.input.read(&mut self.buffer);
        self.partner.take(typed)?;
        if self.input.is_over() {
            self.since = self.net.now();
            self.partner.finish()?;
        }
        Ok(())
    }

    fn receive(&mut self) {
        match self.partner.receive(&mut self.buffer) {
            Ok(Received::Nothing) => {}
            Ok(Received::Some(n)) => {
                self.heard = true;
                self.since = self.net.now();
                self.output.take(&self.buffer[..n], !P::ENDS);
            }
            Ok(Received::End) => self.end(Ok(())),
            Err(e) => self.end(Err(e)),
        }
    }

    /// The first end counts.
    fn end(&mut self, result: Result<(), ConnectError>) {
        if self.ended.is_none() {
            self.ended = Some(result);
            self.output.take(&[], true);
        }
    }

    /// When patience ends, if it does.
    fn deadline(&self) -> Option<Instant> {
        if self.ended.is_some() || !self.output.is_empty() {
            return None;
        }
        let all_sent = self.input.is_over() && self.partner.waiting() == 0;
        let implied = (!P::ENDS && all_sent).then_some(ANSWERING);
        self.since.checked_add(self.timeout.or(implied)?)
    }

    /// Writes what has come. While somebody was still to read it, it wasn't the server who was
    /// silent.
    fn show(&mut self) -> Result<(), ConnectError> {
        if !self.output.is_empty() {
            self.since = self.net.now();
        }
        self.output.write()
    }

    /// Ends a wait that was long enough.
    fn judge(&mut self) {
        if self.deadline().is_some_and(|at| at <= self.net.now()) {
            let verdict = self.verdict();
            self.end(verdict);
        }
    }

    /// What such an end means: that nothing came is a failure for who has said how long to wait.
    fn verdict(&self) -> Result<(), ConnectError> {
        let (name, Some(timeout)) = (&self.name, self.timeout) else {
            return Ok(());
        };
        let time = humantime::format_duration(timeout);
        if self.partner.waiting() > 0 {
            Err(ConnectError(format!("{name} took nothing for {time}")))
        } else if self.heard {
            Ok(())
        } else {
            Err(ConnectError(format!("nothing came from {name} for {time}")))
        }
    }
}
