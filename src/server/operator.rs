//! The operator: commands that are typed at the console, and their effects.

use std::time::{Duration, Instant};

use super::clients::{Client, Clients};
use crate::close::CloseReason;
use crate::net::Stream;
use crate::service::Service;
use crate::text::escape::escape;
use crate::text::{duration, plural};

/// The answer to `/help`.
const HELP: &str = "\
TEXT          say it to all clients
@ID TEXT      say it to one client
/list         the clients: id, peer, age, bytes in and out, bytes waiting, messages missed
/kick ID      close a client
/stats        statistics of the server
/help         this list
/quit, quit   stop the server
A TEXT that begins with / or @ is written with two of them.";

/// A line that an operator has typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// An empty line.
    Nothing,
    /// A text for all clients.
    Say(Vec<u8>),
    /// A text for the client with this number.
    Tell(u64, Vec<u8>),
    List,
    Kick(u64),
    Stats,
    Help,
    Quit,
    /// A line that is no command, and the reason.
    Invalid(String),
}

impl Command {
    /// Parses a line, without its end.
    pub(super) fn parse(line: &[u8]) -> Self {
        if line.starts_with(b"//") || line.starts_with(b"@@") {
            return Self::Say(line[1..].to_vec());
        }
        if let Some(rest) = line.strip_prefix(b"@") {
            return Self::parse_tell(rest);
        }
        let words: Vec<&[u8]> = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .collect();
        match words[..] {
            [] => Self::Nothing,
            [b"/list"] => Self::List,
            [b"/kick", id] => number(id).map_or_else(
                || Self::Invalid(format!("'{}' is not a client's id", escape(id))),
                Self::Kick,
            ),
            [b"/kick", ..] => Self::Invalid("expected /kick ID".to_owned()),
            [b"/stats"] => Self::Stats,
            [b"/help"] => Self::Help,
            [b"/quit" | b"quit"] => Self::Quit,
            [word, ..] if word.starts_with(b"/") => Self::Invalid(format!(
                "'{}' is not a command; /help lists them",
                escape(line)
            )),
            _ => Self::Say(line.to_vec()),
        }
    }

    /// Parses a text for one client, after its `@`.
    fn parse_tell(rest: &[u8]) -> Self {
        let Some(at) = rest.iter().position(|&byte| byte == b' ') else {
            return Self::Invalid("expected @ID TEXT".to_owned());
        };
        match number(&rest[..at]) {
            Some(id) => Self::Tell(id, rest[at + 1..].to_vec()),
            None => Self::Invalid("expected a client's id after '@'".to_owned()),
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Executes a command that concerns clients; returns the answer to the operator.
pub(super) fn execute<S: Service, T: Stream>(
    command: Command,
    clients: &mut Clients<S, T>,
    now: Instant,
) -> Option<String> {
    match command {
        Command::Nothing | Command::Stats | Command::Quit => None,
        Command::Say(text) => say(&text, clients),
        Command::Tell(id, text) => tell(id, &text, clients),
        Command::List => Some(list(clients, now)),
        Command::Kick(id) => kick(id, clients),
        Command::Help => Some(HELP.to_owned()),
        Command::Invalid(why) => Some(why),
    }
}

/// Says a text to all clients.
pub(super) fn say<S: Service, T: Stream>(
    text: &[u8],
    clients: &mut Clients<S, T>,
) -> Option<String> {
    if clients.service_mut().publish_line(text) {
        return None;
    }
    if clients.is_empty() {
        return Some("no clients are connected".to_owned());
    }
    let message = clients.service().frame_line(text);
    let mut unread = 0;
    for key in clients.keys() {
        unread += u64::from(!send(key, &message, clients));
    }
    (unread > 0).then(|| format!("not said to {}, not reading", plural(unread, "client")))
}

/// Says a text to one client.
fn tell<S: Service, T: Stream>(
    id: u64,
    text: &[u8],
    clients: &mut Clients<S, T>,
) -> Option<String> {
    let Some(key) = clients.find(id) else {
        return Some(format!("there is no client {id}"));
    };
    if !clients.get(key).peer().listens() {
        return Some(format!("client {id} only publishes"));
    }
    let message = clients.service().frame_line(text);
    let sent = send(key, &message, clients);
    (!sent).then(|| format!("client {id} doesn't read: not said"))
}

/// Sends a private message. False if too much waits for the client already.
fn send<S: Service, T: Stream>(key: usize, message: &[u8], clients: &mut Clients<S, T>) -> bool {
    let high_water = clients.limits().high_water;
    clients.touch(key, |connection, service| {
        let sent = connection.is_serving() && connection.waiting() as u64 <= high_water;
        if sent {
            connection.tell(service, message);
        }
        sent
    })
}

fn kick<S: Service, T: Stream>(id: u64, clients: &mut Clients<S, T>) -> Option<String> {
    let Some(key) = clients.find(id) else {
        return Some(format!("there is no client {id}"));
    };
    clients.touch(key, |connection, service| {
        connection.close(service, CloseReason::Kicked);
    });
    None
}

/// A table of the clients, in the order of their numbers.
fn list<S: Service, T: Stream>(clients: &Clients<S, T>, now: Instant) -> String {
    let mut lines = vec![format!(
        "{:>6}  {:<24} {:>8} {:>12} {:>12} {:>10} {:>8}",
        "id", "peer", "age", "in", "out", "waiting", "missed"
    )];
    let mut rows: Vec<&Client<T, S>> = clients.iter().collect();
    rows.sort_by_key(|client| client.peer().id);
    lines.extend(
        rows.into_iter()
            .map(|client| row(client, clients.service(), now)),
    );
    lines.join("\n")
}

fn row<S: Service, T: Stream>(client: &Client<T, S>, service: &S, now: Instant) -> String {
    let peer = client.peer();
    let age = Duration::from_secs(now.duration_since(client.opened()).as_secs());
    let (received, sent) = client.connection().traffic();
    let waiting = client.unsent(service);
    let session = client.connection().session();
    let missed = session.map_or(0, |session| service.balance(session).missed);
    format!(
        "{:>6}  {:<24} {:>8} {received:>12} {sent:>12} {waiting:>10} {missed:>8}",
        peer.id,
        peer.address.to_string(),
        duration(age),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_parsed() {
        let say = |text: &str| Command::Say(text.into());
        for (line, command) in [
            ("", Command::Nothing),
            ("  ", Command::Nothing),
            ("hello all", say("hello all")),
            ("  indented", say("  indented")),
            ("//etc", say("/etc")),
            ("@@home", say("@home")),
            ("quit it", say("quit it")),
            ("@7 hello you", Command::Tell(7, "hello you".into())),
            ("@7 ", Command::Tell(7, "".into())),
            ("/list", Command::List),
            ("/kick 3", Command::Kick(3)),
            (" /stats ", Command::Stats),
            ("/help", Command::Help),
            ("/quit", Command::Quit),
            ("quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), command, "{line:?}");
        }
    }

    #[test]
    fn invalid_lines_are_refused_with_a_reason() {
        for (line, why) in [
            ("@7", "expected @ID TEXT"),
            ("@x y", "expected a client's id"),
            ("/kick", "expected /kick ID"),
            ("/kick me", "'me' is not a client's id"),
            ("/kick 1 2", "expected /kick ID"),
            ("/list all", "'/list all' is not a command"),
            ("/shout", "'/shout' is not a command"),
        ] {
            match Command::parse(line.as_bytes()) {
                Command::Invalid(text) => assert!(text.contains(why), "{line}: {text}"),
                command => panic!("{line}: {command:?}"),
            }
        }
    }
}
