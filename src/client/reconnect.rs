//! The next connection, after one that the server has ended or that is lost.

use std::time::Duration;

use log::{info, warn};

use super::dial::{Dialed, DialedSocket, Dialer, FIRST_PAUSE, LONGEST_PAUSE};
use super::encode::InputEncoder;
use super::kernel::Kernel;
use super::relay::{Ended, Relay, Transport};
use super::stdio::{INPUT, OUTPUT, Standard};
use super::stream::StreamTransport;
use super::{Connect, ConnectError};
use crate::net::Event;
use crate::net::error::cause;
use crate::text::template::Recipient;

/// A relay over a byte stream.
type StreamRelay<N> = Relay<N, StreamTransport<<N as crate::net::Net>::Stream>>;

/// Relays until the connection ends, and if the settings say so the next one, until there is no more
/// input.
pub(super) fn run<N: Kernel>(
    connect: &Connect,
    mut relay: StreamRelay<N>,
    high_water: usize,
) -> Result<(), ConnectError> {
    let mut pause = FIRST_PAUSE;
    loop {
        relay.run()?;
        if !relay.is_to_reconnect() {
            return relay.judge();
        }
        let Ended {
            cause,
            lasted,
            net,
            standard,
        } = relay.leave();
        warn!("{cause}; reconnecting");
        if lasted >= LONGEST_PAUSE {
            pause = FIRST_PAUSE; // otherwise it is a server that closes each connection at once
        }
        let absence = Absence {
            connect,
            net,
            standard,
            high_water,
            pause,
            interrupted: false,
        };
        match absence.run()? {
            Next::Relay(next, last_pause) => (relay, pause) = (*next, last_pause),
            Next::End(result) => return result,
        }
    }
}

/// The time between two connections.
struct Absence<'a, N: Kernel> {
    connect: &'a Connect,
    net: N,
    standard: Standard<N::Stream>,
    high_water: usize,
    /// The pause before the next attempt.
    pause: Duration,
    /// True after a signal that asks for a stop.
    interrupted: bool,
}

/// The end of the time between two connections.
enum Next<N: Kernel> {
    /// The next connection, and the next pause.
    Relay(Box<StreamRelay<N>>, Duration),
    /// There is no more input, or no reader of the output.
    End(Result<(), ConnectError>),
}

impl<N: Kernel> Absence<'_, N> {
    fn run(mut self) -> Result<Next<N>, ConnectError> {
        let start = self.net.now();
        loop {
            let retry = self.connect.reconnect;
            let left = retry.map_or(Duration::ZERO, |retry| {
                retry.saturating_sub(self.net.now() - start)
            });
            self.sleep(self.pause.min(left))?;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            if self.is_over() {
                return Ok(Next::End(self.result()));
            }
            let mut dialer = Dialer {
                connect: self.connect,
                net: &mut self.net,
                start,
                retry,
            };
            let began_in_time = dialer.is_in_time();
            match dialer.try_addresses() {
                Ok(reached) => return Ok(self.next(reached)),
                Err(error) if dialer.may_retry(began_in_time, &error) => {}
                Err(error) => return Err(dialer.failure(&error)),
            }
            self.standard.latch_all();
        }
    }

    /// Waits for this time, and reads input meanwhile, so that its end is noticed.
    fn sleep(&mut self, time: Duration) -> Result<(), ConnectError> {
        let end = self.net.now() + time;
        let mut buffer = vec![0; self.high_water];
        loop {
            self.standard.read_ahead(self.high_water, &mut buffer);
            self.standard.output.write()?;
            let left = end.saturating_duration_since(self.net.now());
            if left.is_zero() || self.is_over() {
                return Ok(());
            }
            let mut events = Vec::new();
            let waited = self.net.wait(Some(left), &mut events);
            waited.map_err(|e| ConnectError::new("cannot wait for events", cause(&e)))?;
            for event in events {
                match event {
                    Event::Client(INPUT, ready) => self.standard.input.latch(ready),
                    Event::Client(OUTPUT, ready) => self.standard.output.latch(ready),
                    Event::Stop => self.interrupted = true,
                    _ => {}
                }
            }
        }
    }

    /// True if there is no reason for another connection.
    fn is_over(&self) -> bool {
        let Standard { input, output, .. } = &self.standard;
        let all_sent = input.is_ended() && self.standard.unsent.is_empty();
        let no_more = all_sent && !self.connect.recv_only;
        no_more || input.quit_requested || output.is_closed || self.interrupted
    }

    /// The result of a client that has no further connection.
    fn result(&mut self) -> Result<(), ConnectError> {
        if let Some(failure) = self.standard.failure.take() {
            return Err(failure);
        }
        if self.standard.unsent.is_empty() || self.interrupted {
            return Ok(());
        }
        let text = "there was no connection to send all of standard input to";
        Err(ConnectError(text.to_owned()))
    }

    fn next(mut self, reached: Dialed<N>) -> Next<N> {
        let Dialed {
            socket,
            peer,
            local,
        } = reached;
        let DialedSocket::Stream(stream, ready) = socket else {
            unreachable!("the address is that of a server that accepts connections")
        };
        if !self.standard.are_a_terminal() {
            info!("connected to {peer} again");
        }
        self.standard.latch_all();
        let recipient = Recipient { id: 0, peer, local };
        let encoder = InputEncoder::new(self.connect);
        let mut transport = StreamTransport::new(stream, &recipient.peer, encoder);
        transport.latch(ready);
        let relay = Relay::new(
            self.net,
            self.standard,
            self.connect,
            transport,
            &recipient,
            self.high_water,
        );
        Next::Relay(Box::new(relay), self.pause)
    }
}
