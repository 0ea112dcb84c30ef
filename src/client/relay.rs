//! The loop of a connection: standard input to the server, received bytes to standard output.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::kernel::Kernel;
use super::stdio::{INPUT, Input, OUTPUT, Output, Standard};
use super::{Connect, ConnectError, SERVER, connection_lost};
use crate::net::error::cause;
use crate::net::{Event, Readiness};
use crate::text::template::{Recipient, TemplateRenderer};
use crate::text::{duration, plural};

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
    fn queue_text(&mut self, text: &[u8]);

    /// Queues input, converted to the server's encoding.
    fn queue_input(&mut self, input: &[u8]);

    /// Ends the input, if it has not ended: the server is told once all is sent, if it can be told.
    fn end_input(&mut self);

    /// Sends what the kernel takes; returns true if something was sent.
    fn send(&mut self) -> Result<bool, ConnectError>;

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, ConnectError>;

    /// True once a server that has ended its output has taken all that was sent to it since.
    ///
    /// # Errors
    /// If it takes no more.
    fn is_delivered(&mut self) -> Result<bool, ConnectError>;

    /// True if a server that has ended its output is known to take no more input.
    fn is_gone(&self) -> bool;

    /// A failure that concerns a part of the input only, unless it was taken before.
    fn take_failure(&mut self) -> Option<ConnectError>;

    /// False if no answer will be received, as far as it is known.
    fn expects_answer(&self) -> bool;
}

/// The outcome of one attempt to receive.
pub(super) enum Received {
    Nothing,
    /// A number of bytes; a datagram may have none.
    Bytes(usize),
    End,
}

/// What is left of a connection after which another is to follow.
pub(super) struct Ended<N: Kernel> {
    /// The reason of the end.
    pub(super) cause: String,
    pub(super) lasted: Duration,
    pub(super) net: N,
    pub(super) standard: Standard<N::Stream>,
}

/// Both directions of a connection.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of two directions, in any combination"
)]
pub(super) struct Relay<N: Kernel, T> {
    net: N,
    /// The server's address in messages to the user.
    name: String,
    transport: T,
    input: Input<N::Stream>,
    output: Output<N::Stream>,
    /// True if the end of input is not told: there is none, and the server goes on.
    recv_only: bool,
    /// True if another connection follows one that the server has ended, or that is lost.
    reconnects: bool,
    /// Time at which the connection was made.
    begun: Instant,
    timeout: Option<Duration>,
    /// Time at which bytes were last sent, received or written to standard output.
    last_progress: Instant,
    received_any: bool,
    /// True after the end of the server's output; it may still take input.
    server_ended: bool,
    /// Time at which the last poll began.
    polled: Instant,
    /// The first failure that concerns a part of the input only.
    failure: Option<ConnectError>,
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
        standard: Standard<N::Stream>,
        connect: &Connect,
        transport: T,
        recipient: &Recipient,
        high_water: usize,
    ) -> Self {
        let name = recipient.peer.to_string();
        if standard.are_a_terminal() {
            info!("connected to {name}; type quit or press Ctrl-D to leave");
        }
        let unsent = standard.unsent.clone();
        let mut relay = Self::over(net, standard, connect, transport, high_water);
        relay.name = name;
        for text in &connect.send {
            let mut renderer = TemplateRenderer::new(text.clone());
            renderer.set_time(relay.net.time_of_day());
            let text = renderer.render(Some(recipient));
            relay.transport.queue_text(text);
        }
        relay.transport.queue_input(&unsent);
        if relay.input.is_ended() && !relay.recv_only {
            relay.transport.end_input();
        }
        relay
    }

    fn over(
        net: N,
        standard: Standard<N::Stream>,
        connect: &Connect,
        mut transport: T,
        high_water: usize,
    ) -> Self {
        // Events of the time in which it connected are not kept.
        transport.latch(Readiness {
            readable: true,
            writable: true,
            ending: true,
            hung_up: false,
        });
        Self {
            name: String::new(),
            transport,
            input: standard.input,
            output: standard.output,
            recv_only: connect.recv_only,
            reconnects: connect.reconnect.is_some(),
            begun: net.now(),
            timeout: connect.timeout,
            last_progress: net.now(),
            polled: net.now(),
            received_any: false,
            server_ended: false,
            failure: standard.failure,
            result: None,
            interrupted: false,
            high_water,
            buffer: vec![0; high_water],
            net,
        }
    }

    /// Relays until the connection ends and all that was received is written.
    pub(super) fn run(&mut self) -> Result<(), ConnectError> {
        while !self.is_done() {
            self.wait()?;
            self.transfer();
            self.write_output()?;
            self.check_delivery();
            self.check_deadline();
        }
        Ok(())
    }

    /// True if another connection is to follow, unless this one has ended for another reason than the
    /// server: there may be more input, or output for a client that only receives.
    pub(super) fn is_to_reconnect(&self) -> bool {
        let left = self.interrupted || self.output.is_closed || self.input.quit_requested;
        let more = self.recv_only || !self.input.is_ended();
        self.reconnects && more && !left
    }

    /// Ends a connection after which another is to follow. Input that was read for it and not sent is
    /// lost, which is a failure in the end.
    pub(super) fn leave(mut self) -> Ended<N> {
        let mut cause = match self.result.take() {
            Some(Err(error)) => error.to_string(),
            _ => format!("the server {} has ended the connection", self.name),
        };
        let unsent = self.transport.unsent();
        if unsent > 0 {
            let unsent = plural(unsent as u64, "byte");
            cause = format!("{cause}; unsent input: {unsent}");
            self.failure.get_or_insert(ConnectError(cause.clone()));
        }
        Ended {
            cause,
            lasted: self.net.now() - self.begun,
            standard: Standard {
                input: self.input,
                output: self.output,
                unsent: Vec::new(),
                failure: self.failure,
            },
            net: self.net,
        }
    }

    /// The result at the end: of several failures the first.
    pub(super) fn judge(mut self) -> Result<(), ConnectError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.output.is_closed {
            // The reader of the output wants no more, which is no failure of its own.
            return self.check_input("standard output was closed");
        }
        self.result.unwrap_or(Ok(()))
    }

    /// Fails with this event if a part of the input, as far as there is any by now, is still unsent.
    fn check_input(&mut self, event: &str) -> Result<(), ConnectError> {
        if self.interrupted || self.input.is_terminal() {
            return Ok(());
        }
        if self.transport.unsent() == 0 && self.input.read(&mut self.buffer).is_empty() {
            return Ok(());
        }
        let text = format!("{event} before all of standard input was sent");
        Err(ConnectError(text))
    }

    fn is_done(&self) -> bool {
        let quit = self.input.quit_requested && self.transport.unsent() == 0;
        let ended = quit || self.result.is_some();
        self.interrupted || self.output.is_closed || (ended && self.output.unwritten() == 0)
    }

    fn can_read(&self) -> bool {
        let room = self.transport.unsent() <= self.high_water;
        self.input.is_readable() && room && self.result.is_none()
    }

    fn can_receive(&self) -> bool {
        let room = self.output.unwritten() <= self.high_water;
        let more = self.result.is_none() && !self.server_ended;
        self.transport.is_readable() && room && more
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
        if self.can_read() {
            self.read();
        }
        if self.result.is_none() {
            match self.transport.send() {
                Ok(true) => self.last_progress = self.net.now(),
                Ok(false) => {}
                Err(e) => self.end(Err(e)),
            }
        }
        let turns = if T::IS_STREAM { 1 } else { RECEIVES_PER_TURN };
        for _ in 0..turns {
            if self.can_receive() {
                self.receive();
            }
        }
        if let Some(failure) = self.transport.take_failure() {
            self.fail_partly(failure);
        }
    }

    fn read(&mut self) {
        let input = self.input.read(&mut self.buffer);
        self.transport.queue_input(input);
        if self.input.is_ended() {
            self.last_progress = self.net.now();
            self.transport.end_input();
        }
        if let Some(error) = self.input.take_error() {
            self.failure.get_or_insert(error);
        }
    }

    /// Goes on after a failure that concerns a part of the input, if there is more: at a terminal
    /// the user sees the failure, and can start again.
    fn fail_partly(&mut self, failure: ConnectError) {
        let all_sent = self.input.is_ended() && self.transport.unsent() == 0;
        let answers = self.received_any || self.transport.expects_answer();
        if self.input.is_terminal() || (all_sent && !answers) {
            self.end(Ok(()));
        } else if self.failure.is_none() && !all_sent {
            warn!("{failure}; going on with the rest");
        }
        self.failure.get_or_insert(failure);
    }

    fn receive(&mut self) {
        match self.transport.receive(&mut self.buffer) {
            Ok(Received::Nothing) => {}
            Ok(Received::Bytes(n)) => {
                self.received_any = true;
                self.last_progress = self.net.now();
                self.output.queue(&self.buffer[..n], !T::IS_STREAM);
            }
            Ok(Received::End) => self.end_output(),
            Err(e) => self.end(Err(e)),
        }
    }

    /// The end of the server's output. What is typed at a terminal is meant for a server that
    /// answers; between pipes, the server may be one that only takes input.
    fn end_output(&mut self) {
        self.server_ended = true;
        self.last_progress = self.net.now();
        self.output.queue(&[], true);
        if self.is_to_reconnect() {
            return self.end(Ok(()));
        }
        if !self.input.is_terminal() {
            if self.input.is_ended() {
                self.transport.end_input();
            }
            return;
        }
        let result = match self.transport.unsent() {
            0 => Ok(()),
            n => Err(connection_lost(
                &self.name,
                format_args!(
                    "the server has ended it; unsent: {}",
                    plural(n as u64, "byte")
                ),
            )),
        };
        self.end(result);
    }

    /// Ends the connection if the server has ended its output, and has taken all input or takes no
    /// more.
    fn check_delivery(&mut self) {
        if !self.server_ended || self.result.is_some() {
            return;
        }
        if self.output.unwritten() == 0 {
            self.output.end();
        }
        match self.transport.is_delivered() {
            Ok(delivered) if delivered && self.input.is_ended() => self.end(Ok(())),
            Ok(_) if self.transport.is_gone() => {
                let result = self.check_input("the server has closed the connection");
                self.end(result);
            }
            Ok(_) => {}
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
        let implied = (!T::IS_STREAM && all_sent && !self.recv_only).then_some(ANSWER_TIMEOUT);
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
        } else if self.received_any || self.server_ended {
            Ok(())
        } else {
            Err(ConnectError(format!(
                "received nothing from {name} for {time}"
            )))
        }
    }
}
