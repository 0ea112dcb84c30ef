//! The operator: commands that are typed at the console, and what they do.

use std::time::Duration;

use super::console::Console;
use super::tick::{Client, Tick};
use crate::close::CloseReason;
use crate::net::Net;
use crate::net::address::Role;
use crate::service::Service;
use crate::text::duration;
use crate::text::escape::escape;
use crate::text::plural;

/// What `/help` says.
const HELP: &str = "\
TEXT          say it to all clients
@ID TEXT      say it to one client
/list         who is here: id, peer, age, bytes in and out, bytes waiting, messages missed
/kick ID      close a client
/stats        what the server has done so far
/help         this
/quit, quit   stop the server
A TEXT that begins with / or @ is written with two of them.";

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    Say(Vec<u8>),
    Tell(u64, Vec<u8>),
    List,
    Kick(u64),
    Stats,
    Help,
    Quit,
    /// It can't be made out, for this reason.
    Unclear(String),
}

impl Wish {
    /// Reads a line, without its end.
    fn of(line: &[u8]) -> Self {
        if line.starts_with(b"//") || line.starts_with(b"@@") {
            return Self::Say(line[1..].to_vec());
        }
        if let Some(rest) = line.strip_prefix(b"@") {
            return match rest.iter().position(|&byte| byte == b' ') {
                Some(at) => match number(&rest[..at]) {
                    Some(id) => Self::Tell(id, rest[at + 1..].to_vec()),
                    None => Self::Unclear("expected a client's id after '@'".to_owned()),
                },
                None => Self::Unclear("expected @ID TEXT".to_owned()),
            };
        }
        let words: Vec<&[u8]> = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .collect();
        match words[..] {
            [] => Self::Nothing,
            [b"/list"] => Self::List,
            [b"/kick", id] => number(id).map_or_else(
                || Self::Unclear(format!("'{}' is not a client's id", escape(id))),
                Self::Kick,
            ),
            [b"/kick", ..] => Self::Unclear("expected /kick ID".to_owned()),
            [b"/stats"] => Self::Stats,
            [b"/help"] => Self::Help,
            [b"/quit" | b"quit"] => Self::Quit,
            [word, ..] if word.starts_with(b"/") => Self::Unclear(format!(
                "'{}' is not a command; /help lists them",
                escape(line)
            )),
            _ => Self::Say(line.to_vec()),
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl<S: Service, N: Net> Tick<S, N> {
    /// Does what the operator wants, and answers.
    pub(super) fn obey(&mut self, line: &[u8], console: &mut Console<N::Stream>) -> Option<String> {
        let wish = match Wish::of(line) {
            Wish::Say(text) => Wish::Say(console.encode(&text)),
            Wish::Tell(id, text) => Wish::Tell(id, console.encode(&text)),
            other => other,
        };
        match wish {
            Wish::Nothing => None,
            Wish::Say(text) if !self.holding.is_empty() || console.defers() => {
                console.defer(text);
                let id = self.clients[self.holding.first()?.key].id;
                Some(format!(
                    "client {id} holds up the room: said when it lets go"
                ))
            }
            Wish::Say(text) => self.say(&text),
            Wish::Tell(id, text) => self.tell(id, &text),
            Wish::List => Some(self.list()),
            Wish::Kick(id) => self.kick(id),
            Wish::Stats => Some(self.statistics().join("\n")),
            Wish::Help => Some(HELP.to_owned()),
            Wish::Quit => {
                self.stop();
                None
            }
            Wish::Unclear(why) => Some(why),
        }
    }

    /// Says a text to everybody.
    pub(super) fn say(&mut self, text: &[u8]) -> Option<String> {
        if self.service.publish_line(text) {
            return None;
        }
        if self.clients.is_empty() {
            return Some("nobody is here".to_owned());
        }
        let message = self.service.frame_line(text);
        let keys = self.keys().into_iter();
        let deaf = keys.filter(|key| !self.tell_client(*key, &message)).count();
        (deaf > 0).then(|| format!("not said to {}, not reading", plural(deaf as u64, "client")))
    }

    /// Says a text to one client.
    fn tell(&mut self, id: u64, text: &[u8]) -> Option<String> {
        let Some(key) = self.find(id) else {
            return Some(format!("there is no client {id}"));
        };
        if self.clients[key].role == Role::Publish {
            return Some(format!("client {id} only publishes"));
        }
        let message = self.service.frame_line(text);
        let told = self.tell_client(key, &message);
        (!told).then(|| format!("client {id} doesn't read: not said"))
    }

    /// Sends a message between those of the service, if not too much waits already.
    fn tell_client(&mut self, key: usize, message: &[u8]) -> bool {
        let connection = &mut self.clients[key].connection;
        if connection.waiting() as u64 > self.limits.high_water || !connection.is_serving() {
            return false;
        }
        connection.tell(&self.service, message);
        self.after(key);
        true
    }

    fn kick(&mut self, id: u64) -> Option<String> {
        let Some(key) = self.find(id) else {
            return Some(format!("there is no client {id}"));
        };
        let connection = &mut self.clients[key].connection;
        connection.close(&mut self.service, CloseReason::Kicked);
        self.after(key);
        None
    }

    fn find(&self, id: u64) -> Option<usize> {
        let mut clients = self.clients.iter();
        clients
            .find(|(_, client)| client.id == id)
            .map(|(key, _)| key)
    }

    /// A table of the clients.
    fn list(&self) -> String {
        let mut lines = vec![format!(
            "{:>6}  {:<24} {:>8} {:>12} {:>12} {:>10} {:>8}",
            "id", "peer", "age", "in", "out", "waiting", "missed"
        )];
        let mut clients: Vec<&Client<_, _>> = self.clients.iter().map(|(_, c)| c).collect();
        clients.sort_by_key(|client| client.id);
        let now = self.net.now();
        for client in clients {
            let age = Duration::from_secs(now.duration_since(client.opened).as_secs());
            let (received, sent) = client.connection.traffic();
            let (waiting, missed) = (self.backlog(client), self.owed(client).missed);
            lines.push(format!(
                "{:>6}  {:<24} {:>8} {received:>12} {sent:>12} {waiting:>10} {missed:>8}",
                client.id,
                client.address.to_string(),
                duration(age),
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_understood() {
        let say = |text: &str| Wish::Say(text.into());
        for (line, wish) in [
            ("", Wish::Nothing),
            ("  ", Wish::Nothing),
            ("hello all", say("hello all")),
            ("  indented", say("  indented")),
            ("//etc", say("/etc")),
            ("@@home", say("@home")),
            ("quit it", say("quit it")),
            ("@7 hello you", Wish::Tell(7, "hello you".into())),
            ("@7 ", Wish::Tell(7, "".into())),
            ("/list", Wish::List),
            ("/kick 3", Wish::Kick(3)),
            (" /stats ", Wish::Stats),
            ("/help", Wish::Help),
            ("/quit", Wish::Quit),
            ("quit", Wish::Quit),
        ] {
            assert_eq!(Wish::of(line.as_bytes()), wish, "{line:?}");
        }
    }

    #[test]
    fn what_is_unclear_is_said() {
        for (line, why) in [
            ("@7", "expected @ID TEXT"),
            ("@x y", "expected a client's id"),
            ("/kick", "expected /kick ID"),
            ("/kick me", "'me' is not a client's id"),
            ("/kick 1 2", "expected /kick ID"),
            ("/list all", "'/list all' is not a command"),
            ("/shout", "'/shout' is not a command"),
        ] {
            match Wish::of(line.as_bytes()) {
                Wish::Unclear(text) => assert!(text.contains(why), "{line}: {text}"),
                wish => panic!("{line}: {wish:?}"),
            }
        }
    }
}
