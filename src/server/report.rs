//! Reports: what the server has done so far and what it holds, in words.

use std::time::{Duration, Instant};

use log::info;

use super::tick::{Client, Tick};
use crate::close::Stats;
use crate::net::Net;
use crate::service::{Balance, Service};
use crate::text::plural;

/// When something was last said that is true for long, and met often.
#[derive(Debug, Default)]
pub(super) struct Seldom(Option<Instant>);

/// How often that is said.
const QUIET: Duration = Duration::from_secs(60);

impl Seldom {
    /// Whether it is time to say it again; if so, it is taken for said.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|at| now >= at + QUIET);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Writes a report to the log.
    pub(super) fn report(&self) {
        for line in self.statistics() {
            info!("{line}");
        }
    }

    /// What it has come to up to now, those who are still here included.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        for (_, client) in &self.clients {
            let (received, sent) = client.connection.traffic();
            stats.bytes_in += received;
            stats.bytes_out += sent;
        }
        if let Some(traffic) = self.service.traffic() {
            stats.messages = traffic.messages;
            stats.missed = traffic.missed;
            let owed = |client: &Client<_, _>| self.owed(client).owed;
            let owed: u64 = self.clients.iter().map(|(_, client)| owed(client)).sum();
            stats.deliveries = traffic.promised - owed;
        }
        stats
    }

    /// Messages that a client was promised and not sent yet, and those that it missed.
    pub(super) fn owed(&self, client: &Client<N::Stream, S>) -> Balance {
        let session = client.connection.session();
        session.map_or_else(Balance::default, |session| self.service.balance(session))
    }

    /// Bytes that wait for a client: its own, and those of the shared output.
    pub(super) fn backlog(&self, client: &Client<N::Stream, S>) -> u64 {
        client.connection.waiting() as u64 + client.connection.lag(&self.service)
    }

    /// The report: clients, traffic, the log, who is furthest behind, why clients were closed.
    pub(super) fn statistics(&self) -> Vec<String> {
        let stats = self.stats();
        let here = self.clients.len();
        let mut lines = vec![format!("clients: {here} now, {} in all", stats.clients)];
        let (input, output) = (
            plural(stats.bytes_in, "byte"),
            plural(stats.bytes_out, "byte"),
        );
        if let Some(traffic) = self.service.traffic() {
            let messages = plural(stats.messages, "message");
            lines.push(format!("in: {messages}, {input}"));
            let Stats {
                deliveries, missed, ..
            } = stats;
            let unit = if deliveries == 1 {
                "delivery"
            } else {
                "deliveries"
            };
            lines.push(format!(
                "out: {deliveries} {unit}, {output}; {missed} missed"
            ));
            let held = plural(traffic.held, "byte");
            lines.push(format!("log: position {}, {held} held", traffic.position));
        } else {
            lines.push(format!("in: {input}"));
            lines.push(format!("out: {output}"));
        }
        if stats.datagrams > 0 {
            let Stats {
                datagrams,
                answers,
                unanswered,
                ..
            } = stats;
            lines.push(format!(
                "datagrams: {datagrams} in, {answers} answered, {unanswered} refused"
            ));
        }
        lines.push(self.furthest_behind());
        lines.push(format!("closed: {}", stats.reasons()));
        lines
    }

    /// For whom most waits.
    fn furthest_behind(&self) -> String {
        let clients = self.clients.iter().map(|(_, client)| client);
        let behind = clients.max_by_key(|client| self.backlog(client));
        let Some(client) = behind.filter(|client| self.backlog(client) > 0) else {
            return "furthest behind: nobody".to_owned();
        };
        let bytes = plural(self.backlog(client), "byte");
        let Client { id, address, .. } = client;
        format!("furthest behind: client {id} ({address}), {bytes}")
    }
}
