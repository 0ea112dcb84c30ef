//! Reports: the counters of a server, in words.

use log::info;

use super::clients::Clients;
use crate::close::Stats;
use crate::net::Stream;
use crate::service::Service;
use crate::text::plural;

/// Writes a report to the log.
pub(super) fn log_report<S: Service, T: Stream>(stats: &Stats, clients: &Clients<S, T>) {
    for line in lines(stats, clients) {
        info!("{line}");
    }
}

/// The report: clients, traffic, the log, the client furthest behind, reasons of closes.
pub(super) fn lines<S: Service, T: Stream>(stats: &Stats, clients: &Clients<S, T>) -> Vec<String> {
    let present = clients.len();
    let mut lines = vec![format!("clients: {present} now, {} in all", stats.clients)];
    let (input, output) = (
        plural(stats.bytes_in, "byte"),
        plural(stats.bytes_out, "byte"),
    );
    if let Some(traffic) = clients.service().traffic() {
        let messages = plural(stats.messages, "message");
        let deliveries = deliveries(stats.deliveries);
        let held = plural(traffic.held, "byte");
        lines.push(format!("in: {messages}, {input}"));
        lines.push(format!(
            "out: {deliveries}, {output}; {} missed",
            stats.missed
        ));
        lines.push(format!("log: position {}, {held} held", traffic.position));
    } else {
        lines.push(format!("in: {input}"));
        lines.push(format!("out: {output}"));
    }
    if stats.datagrams > 0 {
        lines.push(format!(
            "datagrams: {} in, {} answered, {} refused",
            stats.datagrams, stats.answers, stats.unanswered
        ));
    }
    lines.push(furthest_behind(clients));
    if stats.probes > 0 {
        let clients = plural(stats.probes, "client");
        lines.push(format!("probes: {clients} came and went without a byte"));
    }
    lines.push(format!("closed: {}", stats.reasons()));
    lines
}

fn deliveries(count: u64) -> String {
    if count == 1 {
        "1 delivery".to_owned()
    } else {
        format!("{count} deliveries")
    }
}

/// The client for which the most bytes wait.
fn furthest_behind<S: Service, T: Stream>(clients: &Clients<S, T>) -> String {
    let unsent = clients
        .iter()
        .map(|client| (client.unsent(clients.service()), client));
    let behind = unsent
        .filter(|(bytes, _)| *bytes > 0)
        .max_by_key(|(bytes, _)| *bytes);
    let Some((bytes, client)) = behind else {
        return "furthest behind: none".to_owned();
    };
    let (peer, bytes) = (client.peer(), plural(bytes, "byte"));
    format!(
        "furthest behind: client {} ({}), {bytes}",
        peer.id, peer.address
    )
}
