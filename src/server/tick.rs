//! The tick: one pass of the event loop.
//!
//! Events only latch readiness. The work is done afterwards in phases, at our own pace. Clients are
//! removed near the end of the pass; until then a slab key means the same client.

use std::io;
use std::time::{Duration, Instant};

use log::{debug, info, trace};

use super::accepting::{Accepting, ListenerInfo};
use super::clients::{Clients, Reaped};
use super::console::Console;
use super::datagrams::Datagrams;
use super::heartbeat::Heartbeat;
use super::limits::Limits;
use super::report;
use super::stop::{self, Stop};
use super::timers::{Timers, remaining};
use crate::close::Stats;
use crate::config::Config;
use crate::net::address::Address;
use crate::net::{EVENTS_PER_WAIT, Event, Net};
use crate::service::Service;

/// A sleep that ends later than it should by more than this was held up: the process was stopped, or
/// the machine suspended or starved.
const HELD_UP: Duration = Duration::from_millis(100);
/// The most polls before a judgement, where each fills the event buffer.
const MOST_LOOKS: usize = 64;

/// The state of the loop over a kernel `N`: the clients, and the phases that work on them.
pub(super) struct Tick<S: Service, N: Net> {
    pub(super) net: N,
    pub(super) clients: Clients<S, N::Stream>,
    accepting: Accepting,
    datagrams: Datagrams,
    timers: Timers,
    heartbeat: Option<Heartbeat>,
    pub(super) console: Option<Console<N::Stream>>,
    stop: Stop,
    events: Vec<Event>,
}

impl<S: Service, N: Net> Tick<S, N> {
    /// A loop over listeners and datagram sockets, which `net` knows by their indices.
    pub(super) fn new(
        net: N,
        listeners: Vec<ListenerInfo>,
        datagram_addresses: Vec<Address>,
        service: S,
        config: &Config,
        limits: Limits,
    ) -> Self {
        let now = net.now();
        let heartbeat = config.heartbeat.as_ref();
        Self {
            accepting: Accepting::new(listeners, limits.once),
            datagrams: Datagrams::new(datagram_addresses, config, now),
            timers: Timers::new(limits.slow_consumer),
            heartbeat: heartbeat.map(|settings| Heartbeat::new(settings, now, &service)),
            console: None,
            stop: Stop::new(limits.grace),
            clients: Clients::new(service, config, limits, now),
            events: Vec::new(),
            net,
        }
    }

    /// One pass of the loop.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        self.wait()?;
        self.clients.set_time(&self.net);
        self.accept();
        self.answer_datagrams();
        // Before reading: bytes that go out make room for bytes that come in.
        self.clients.flush();
        self.read();
        // After all turns: one write a client, however many messages were published.
        self.clients.publish();
        self.close_behind_only_client();
        self.judge()?;
        // After the phases that close, before the console, which then shows the last input of
        // removed clients.
        self.reap();
        self.serve_console();
        trace!(
            "{} events, {} clients",
            self.events.len(),
            self.clients.len()
        );
        Ok(())
    }

    /// Sleeps until an event, unless a phase has work.
    fn wait(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let sleep = timeout.filter(|timeout| !timeout.is_zero());
        let sleep = sleep.map(|timeout| (self.net.now(), timeout));
        self.take_events(timeout)?;
        if let Some((start, timeout)) = sleep {
            let slept = self.net.now() - start;
            if slept > timeout + HELD_UP {
                self.excuse(slept);
            }
        }
        Ok(())
    }

    /// Gives a time back to those who are waited for: this process could not take what they sent,
    /// nor send what they are owed. Idle and write timeouts are judged by what the streams hold.
    fn excuse(&mut self, time: Duration) {
        debug!("held up for {:.1} s", time.as_secs_f64());
        self.clients.excuse(time);
        self.stop.excuse(time);
    }

    /// Takes the events that there are, or the first within `timeout`; events only latch.
    /// Returns their number.
    fn take_events(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        self.net.wait(timeout, &mut events)?;
        for &event in &events {
            match event {
                Event::Client(key, ready) => {
                    if !self.clients.latch(key, ready)
                        && let Some(console) = &mut self.console
                    {
                        console.latch(key, ready);
                    }
                }
                Event::Listener(listener) => self.accepting.latch(listener),
                Event::Datagram(socket) => self.datagrams.latch(socket),
                Event::Stop => self.request_stop(),
                Event::Report => report::log_report(&self.stats(), &self.clients),
            }
        }
        self.events = events;
        Ok(self.events.len())
    }

    /// The longest sleep of the next wait; `None` if only an event ends it.
    pub(super) fn timeout(&mut self) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        if self.clients.has_waiting() {
            self.clients.start_deadlines(self.net.now());
        }
        let held = self.clients.is_held();
        let deadlines = [
            self.next_judgement(),
            self.console.as_ref().and_then(Console::deadline),
            self.accepting.deadline().filter(|_| !held),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(remaining(next, self.net.now()))
    }

    /// True if a phase could go on without another event.
    fn has_work(&self) -> bool {
        let accepting =
            self.accepting.has_work() && !self.clients.is_held() && !self.clients.is_full();
        let console = self.console.as_ref().is_some_and(Console::has_work);
        let datagrams = self.datagrams.has_work();
        accepting || datagrams || console || self.clients.has_work() || self.stop.has_work()
    }

    fn accept(&mut self) {
        self.accepting.run(&mut self.net, &mut self.clients);
    }

    /// Closes the listeners of a server for one client, once that client has exchanged a byte.
    fn close_behind_only_client(&mut self) {
        if self.accepting.expects_only_client() && self.clients.has_used_final() {
            self.close_listeners();
        }
    }

    fn answer_datagrams(&mut self) {
        let (net, clients) = (&mut self.net, &mut self.clients);
        if self.datagrams.run(net, clients, &mut self.console) {
            self.stop_by_itself();
        }
    }

    fn read(&mut self) {
        let (net, console) = (&self.net, &mut self.console);
        let (most, shown) = (self.stop.most_turns(), console.is_some());
        let turns = self.clients.read(most, shown, |key, peer, input| {
            if let Some(console) = console {
                console.show_input(key, peer, input, net.now());
            }
        });
        self.stop.count_turns(turns, &mut self.clients);
    }

    /// Judges clients and the stop by their deadlines. Without a deadline no clock is read.
    fn judge(&mut self) -> io::Result<()> {
        if !self.clients.has_deadlines() && self.next_judgement().is_none() {
            return Ok(());
        }
        let now = self.net.now();
        self.clients.start_deadlines(now);
        let mut noted = now;
        if self.next_judgement().is_some_and(|next| next <= now) {
            self.look_again()?;
            noted = self.net.now();
        }
        self.timers.run(now, noted, &mut self.clients);
        if !self.clients.is_empty() && self.stop.is_overdue(now) {
            stop::log_overdue();
            self.abort();
        }
        if let Some(heartbeat) = &mut self.heartbeat
            && !self.stop.has_begun()
        {
            heartbeat.run(now, &mut self.clients);
        }
        Ok(())
    }

    /// Takes the events that the poller still has, and deals with them: a client may look late only
    /// because this process was stopped, interrupted or starved, or the event buffer was full.
    fn look_again(&mut self) -> io::Result<()> {
        for _ in 0..MOST_LOOKS {
            if self.take_events(Some(Duration::ZERO))? < EVENTS_PER_WAIT {
                break;
            }
        }
        self.clients.set_time(&self.net);
        self.clients.flush();
        self.read();
        self.clients.publish();
        Ok(())
    }

    /// The earliest deadline of a client, of the heartbeat, or of the stop.
    fn next_judgement(&self) -> Option<Instant> {
        let heartbeat = self.heartbeat.as_ref().filter(|_| !self.is_stopping());
        let heartbeat = heartbeat.and_then(|heartbeat| heartbeat.deadline(&self.clients));
        let deadlines = [
            self.stop.deadline(),
            self.clients.next_deadline(),
            heartbeat,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn reap(&mut self) {
        let (net, console) = (&self.net, &mut self.console);
        let now = || net.now();
        let reaped = self.clients.reap(now, |key| {
            if let Some(console) = console {
                console.show_rest(key);
            }
        });
        if reaped != Reaped::Nothing {
            self.accepting.wake();
        }
        if reaped == Reaped::Final {
            self.stop_by_itself();
        }
    }

    fn serve_console(&mut self) {
        let Some(console) = &mut self.console else {
            return;
        };
        let datagrams = &self.datagrams;
        let stops = console.run(&self.net, &mut self.clients, &|clients| {
            let mut stats = clients.stats();
            datagrams.add_to(&mut stats);
            report::lines(&stats, clients).join("\n")
        });
        for _ in 0..stops {
            self.request_stop();
        }
        if let Some(console) = &mut self.console
            && self.stop.has_begun()
            && self.clients.is_empty()
        {
            console.finish(self.net.now());
        }
    }

    /// Stops on request: the first request begins the stop, the second ends it at once.
    fn request_stop(&mut self) {
        if self.stop.is_explicit() {
            return self.abort();
        }
        self.begin_stop();
        self.stop.make_explicit(&self.net);
    }

    /// Stops because the work is done. With unlimited patience the stop has no time limit, as
    /// nothing may be lost.
    fn stop_by_itself(&mut self) {
        if self.stop.has_begun() {
            return;
        }
        if self.accepting.expects_only_client() {
            self.close_listeners(); // it has had its client
        }
        self.begin_stop();
        if self.clients.limits().patience.is_some() {
            self.stop.limit(&self.net);
        }
    }

    fn begin_stop(&mut self) {
        if self.stop.has_begun() {
            return;
        }
        info!("stopping");
        self.clients.set_time(&self.net);
        let (net, clients) = (&mut self.net, &mut self.clients);
        self.datagrams.run_last(net, clients, &mut self.console);
        self.accepting.run_last(net, clients);
        self.close_listeners();
        self.stop.begin(&mut self.clients);
    }

    fn close_listeners(&mut self) {
        self.net.close_listeners();
        self.accepting.close();
        self.datagrams.close();
    }

    /// Ends a stop at once.
    fn abort(&mut self) {
        stop::abort_all(&mut self.clients);
        if let Some(console) = &mut self.console {
            console.give_up();
        }
    }

    /// The counters so far.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.clients.stats();
        self.datagrams.add_to(&mut stats);
        stats
    }

    /// True if the server is stopping, has no client left, and has nothing left to show.
    pub(super) fn is_done(&self) -> bool {
        let shown = self.console.as_ref().is_none_or(Console::is_done);
        self.is_stopping() && self.clients.is_empty() && shown
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.has_begun()
    }

    #[cfg(test)]
    pub(super) fn start_heartbeat(&mut self, settings: &crate::config::Heartbeat) {
        let heartbeat = Heartbeat::new(settings, self.net.now(), self.clients.service());
        self.heartbeat = Some(heartbeat);
    }

    /// True if a listener may have clients waiting.
    #[cfg(test)]
    pub(super) fn may_accept(&self) -> bool {
        self.accepting.is_latched()
    }

    /// True if a last turn is still to come, or a client to be removed.
    #[cfg(test)]
    pub(super) fn is_ending(&self) -> bool {
        self.stop.has_work() || self.clients.has_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::Role;
    use crate::server::fixture::TestNet;
    use crate::service::Echo;
    use crate::testing::{Answer, Script};

    fn tick(config: &Config) -> Tick<Echo, TestNet> {
        let info = ListenerInfo {
            role: Role::Both,
            address: Address::Stdin,
        };
        let limits = Limits::new(config, Echo::new().needs());
        let listeners = vec![info];
        let mut net = TestNet::new();
        net.accepts.push_back(Ok(Script::default()));
        let mut tick = Tick::new(net, listeners, Vec::new(), Echo::new(), config, limits);
        tick.accepting.latch(0);
        tick.tick().unwrap();
        assert_eq!(tick.clients.len(), 1);
        tick
    }

    /// The end of the input comes with its last bytes: they are shown all the same.
    #[test]
    fn last_input_of_a_client_that_leaves_is_shown() {
        let mut tick = tick(&Config::default());
        let encoding = crate::text::encoding::TextEncoding::default();
        let output = Script::default();
        tick.console = Some(Console::open(None, output, encoding, &mut tick.net).unwrap());
        let key = tick.clients.keys()[0];
        tick.clients.touch(key, |connection, _| {
            let stream = connection.stream_mut();
            stream.cuts_reads = true;
            for answer in [Answer::Give(b"one\ntwo".to_vec()), Answer::End] {
                stream.on_read(answer);
            }
            connection.expect_input();
        });
        tick.tick().unwrap();
        assert!(tick.clients.is_empty());
        let shown = tick.console.as_mut().unwrap().take_shown();
        assert_eq!(shown, "1 127.0.0.1:5000: one\n1 127.0.0.1:5000: two\n");
    }

    #[test]
    fn without_a_deadline_no_clock_is_read() {
        let mut tick = tick(&Config::default());
        tick.net.clock_reads.set(0);
        tick.tick().unwrap();
        assert_eq!(tick.net.clock_reads.get(), 0);
    }
}
