//! The loop of a connection: standard input to the server, received bytes to standard output.

use std::io;
use std::time::{Duration, Instant};

use log::info;

use super::kernel::Kernel;
use super::stdio::{Input, Output};
use super::{Connect, ConnectError, SERVER};
use crate::net::error::cause;
use crate::net::{Event, Readiness};
use crate::text::duration;
use crate::text::template::{Recipient, TemplateRenderer};

const INPUT: usize = 1;
const OUTPUT: usize = 2;

/// Datagrams received in one turn, before others are sent.
const RECEIVES_PER_TURN: usize = 64;

/// Default of the timeout after the last datagram was sent: datagrams have no end of their own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that bytes are exchanged with: over a stream or in datagrams. Its socket is registered
/// under the key [`SERVER`].
pub(super) trait Transport {
    /// True for a stream, which has an end and may be cut anywhere; false for datagrams, which
    /// arrive whole and never end.
    const IS_STREAM: bool;

    fn latch(&mut self, ready: Readiness);

    fn is_readable(&self) -> bool;

    /// True if more could be sent without a further event.
    fn can_send(&self) -> bool;

    /// Unsent bytes, approximately; 0 if and only if all is sent.
    fn unsent(&self) -> usize;

    /// Queues a text that is sent unchanged, before all input.
    fn queue_text(&mut self, text: &[u8]) -> Result<(), ConnectError>;

    /// Queues input, converted to the server's encoding.
    fn queue_input(&mut self, input: &[u8]) -> Result<(), ConnectError>;

    /// Ends the input: the server is told once all is sent, if it can be told.
    fn end_input(&mut self) -> Result<(), ConnectError>;

    /// Sends what the kernel takes; returns true if something was sent.
    fn send(&mut self) -> Result<bool, ConnectError>;

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError>;
}

/// The outcome of one attempt to receive.
pub(super) enum Received {
    Nothing,
    /// A number of bytes; a datagram may have none.
    Bytes(usize),
    End,
}

/// Both directions of a connection.
pub(super) struct Relay<N: Kernel, T> {
    net: N,
    /// The server's address in messages to the user.
    name: String,
    transport: T,
    input: Input<N::Stream>,
    output: Output<N::Stream>,
    timeout: Option<Duration>,
    /// Time at which bytes were last sent, received or written to standard output.
    last_progress: Instant,
    received_any: bool,
    /// Time at which the last poll began.
    polled: Instant,
    /// Set once nothing more is sent and received.
    result: Option<Result<(), ConnectError>>,
    /// True after a signal that asks for a stop.
    interrupted: bool,
    /// Unsent bytes in one direction beyond which no more is read for it.
    high_water: usize,
    buffer: Vec<u8>,
}

impl<N: Kernel, T: Transport> Relay<N, T> {
    pub(super) fn new(
        net: N,
        connect: &Connect,
        transport: T,
        recipient: &Recipient,
        high_water: usize,
    ) -> Result<Self, ConnectError> {
        let cannot_start = |e: io::Error| ConnectError::new("cannot start", cause(&e));
        let opened = Self::open(net, connect, transport, high_water);
        let mut relay = opened.map_err(cannot_start)?;
        relay.name = recipient.peer.to_string();
        for text in &connect.send {
            let mut renderer = TemplateRenderer::new(text.clone());
            renderer.set_time(relay.net.time_of_day());
            relay
                .transport
                .queue_text(renderer.render(Some(recipient)))?;
        }
        if relay.input.is_ended() {
            relay.transport.end_input()?;
        }
        if relay.input.is_terminal() && relay.output.is_terminal() {
            let name = &relay.name;
            info!("connected to {name}; type quit or press Ctrl-D to leave");
        }
        Ok(relay)
    }

    fn open(
        mut net: N,
        connect: &Connect,
        mut transport: T,
        high_water: usize,
    ) -> io::Result<Self> {
        // Events of the time in which it connected are not kept.
        transport.latch(Readiness {
            readable: true,
            writable: true,
            ending: true,
            hung_up: false,
        });
        let input = if connect.send.is_empty() {
            Input::open(&mut net, INPUT)?
        } else {
            Input::closed()
        };
        Ok(Self {
            name: String::new(),
            transport,
            input,
            output: Output::open(connect, &mut net, OUTPUT)?,
            timeout: connect.timeout,
            last_progress: net.now(),
            polled: net.now(),
            received_any: false,
            result: None,
            interrupted: false,
            high_water,
            buffer: vec![0; high_water],
            net,
        })
    }

    /// Relays until the connection ends and all that was received is written.
    pub(super) fn run(mut self) -> Result<(), ConnectError> {
        while !self.is_done() {
            self.wait()?;
            self.transfer();
            self.write_output()?;
            self.check_deadline();
        }
        match self.result {
            // The reader of our output has gone: it wants no more, which is no failure.
            Some(result) if !self.output.is_closed() => result,
            _ => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        let quit = self.input.quit_requested && self.transport.unsent() == 0;
        let ended = quit || self.result.is_some();
        self.interrupted || self.output.is_closed() || (ended && self.output.unwritten() == 0)
    }

    fn can_read(&self) -> bool {
        let room = self.transport.unsent() <= self.high_water;
        self.input.is_readable() && room && self.result.is_none()
    }

    fn can_receive(&self) -> bool {
        let room = self.output.unwritten() <= self.high_water;
        self.transport.is_readable() && room && self.result.is_none()
    }

    /// Waits until something can be moved, or for the deadline.
    fn wait(&mut self) -> Result<(), ConnectError> {
        let can_send = self.transport.can_send() && self.result.is_none();
        self.polled = self.net.now();
        let timeout = if self.can_read() || self.can_receive() || can_send {
            Some(Duration::ZERO)
        } else {
            self.deadline()
                .map(|at| at.saturating_duration_since(self.polled))
        };
        let mut events = Vec::new();
        let waited = self.net.wait(timeout, &mut events);
        waited.map_err(|e| ConnectError::new("cannot wait for events", cause(&e)))?;
        for event in events {
            match event {
                Event::Client(SERVER, ready) => self.transport.latch(ready),
                Event::Client(INPUT, ready) => self.input.latch(ready),
                Event::Client(OUTPUT, ready) => self.output.latch(ready),
                Event::Stop => self.interrupted = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves bytes in both directions: input to the server, received bytes to the output's outbox.
    fn transfer(&mut self) {
        let read = if self.can_read() { self.read() } else { Ok(()) };
        if self.result.is_none() {
            // Also after a failed read: the datagrams before one that is too long are sent.
            match self.transport.send() {
                Ok(true) => self.last_progress = self.net.now(),
                Ok(false) => {}
                Err(e) => self.end(Err(e)),
            }
        }
        if let Err(e) = read {
            self.end(Err(e));
        }
        let turns = if T::IS_STREAM { 1 } else { RECEIVES_PER_TURN };
        for _ in 0..turns {
            if self.can_receive() {
                self.receive();
            }
        }
    }

    fn read(&mut self) -> Result<(), ConnectError> {
        let input = self.input.read(&mut self.buffer);
        self.transport.queue_input(input)?;
        if self.input.is_ended() {
            self.last_progress = self.net.now();
            self.transport.end_input()?;
        }
        Ok(())
    }

    fn receive(&mut self) {
        match self.transport.receive(&mut self.buffer) {
            Ok(Received::Nothing) => {}
            Ok(Received::Bytes(n)) => {
                self.received_any = true;
                self.last_progress = self.net.now();
                self.output.queue(&self.buffer[..n], !T::IS_STREAM);
            }
            Ok(Received::End) => self.end(Ok(())),
            Err(e) => self.end(Err(e)),
        }
    }

    /// Ends the connection; the first end is the one that counts.
    fn end(&mut self, result: Result<(), ConnectError>) {
        if self.result.is_none() {
            self.result = Some(result);
            self.output.queue(&[], true);
        }
    }

    /// Time at which the timeout passes, if one is running: unwritten output stops it.
    fn deadline(&self) -> Option<Instant> {
        if self.result.is_some() || self.output.unwritten() > 0 {
            return None;
        }
        let all_sent = self.input.is_ended() && self.transport.unsent() == 0;
        let implied = (!T::IS_STREAM && all_sent).then_some(ANSWER_TIMEOUT);
        self.last_progress.checked_add(self.timeout.or(implied)?)
    }

    /// Writes what was received. The time that a slow reader of our output takes is not counted
    /// as silence of the server.
    fn write_output(&mut self) -> Result<(), ConnectError> {
        if self.output.unwritten() > 0 {
            self.last_progress = self.net.now();
        }
        self.output.write()
    }

    /// Ends the connection if the last poll began after the deadline and brought nothing. If the
    /// poll began before it, the process may have been stopped since, with events waiting.
    fn check_deadline(&mut self) {
        if self.deadline().is_some_and(|at| at <= self.polled) {
            let result = self.timeout_result();
            self.end(result);
        }
    }

    /// The result after a timeout: a failure if `--timeout` was given and nothing was received, or
    /// if something is still unsent.
    fn timeout_result(&self) -> Result<(), ConnectError> {
        let (name, Some(timeout)) = (&self.name, self.timeout) else {
            return Ok(());
        };
        let time = duration(timeout);
        if self.transport.unsent() > 0 {
            Err(ConnectError(format!("{name} accepted nothing for {time}")))
        } else if self.received_any {
            Ok(())
        } else {
            Err(ConnectError(format!(
                "received nothing from {name} for {time}"
            )))
        }
    }
}
