//! The options that are in force, as the kernel tells them.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use socket2::{Domain, SockRef, Type};

use super::{SocketOptions, system};

impl SocketOptions {
    /// A list of the options in force (getsockopt(2)), such as `SO_RCVBUF 131072 (asked for 65536),
    /// TCP_NODELAY on`. An option that the kernel does not tell is left out.
    pub(crate) fn in_force(&self, socket: &SockRef<'_>) -> String {
        let mut list = List::default();
        let domain = socket.domain();
        let stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
        let unix = domain.as_ref().is_ok_and(|domain| *domain == Domain::UNIX);
        if !unix {
            let asked = Some(self.reuse_addr && stream);
            list.flag("SO_REUSEADDR", socket.reuse_address(), asked);
            list.flag("SO_REUSEPORT", socket.reuse_port(), Some(self.reuse_port));
        }
        list.value("SO_RCVBUF", socket.recv_buffer_size(), self.recv_buffer);
        list.value("SO_SNDBUF", socket.send_buffer_size(), self.send_buffer);
        if stream && !unix {
            list.flag("TCP_NODELAY", socket.tcp_nodelay(), Some(self.nodelay));
            self.list_keepalive(&mut list, socket);
            let linger = socket
                .linger()
                .map(|linger| seconds_or_off(linger.as_ref()));
            let asked = self.linger.filter(Duration::is_zero);
            list.value("SO_LINGER", linger, asked.map(|_| "0s".to_owned()));
            let defer = system::defer_accept(socket).map(|s| format!("{s}s"));
            let asked = self.defer_accept.map(|s| format!("{s}s"));
            list.value("TCP_DEFER_ACCEPT", defer, asked);
            list.value("TCP_FASTOPEN", system::fast_open(socket), self.fast_open);
        }
        if !unix {
            self.list_ip(&mut list, socket, domain.ok());
        }
        if stream {
            list.value("backlog", system::backlog(socket, unix), Some(self.backlog));
        }
        list.0.join(", ")
    }

    fn list_keepalive(&self, list: &mut List, socket: &SockRef<'_>) {
        let on = socket.keepalive();
        let is_on = matches!(on, Ok(true));
        list.flag("SO_KEEPALIVE", on, Some(self.keepalive.is_some()));
        if !is_on {
            return;
        }
        let asked = self.keepalive;
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        let idle = socket.tcp_keepalive_time().map(seconds);
        list.value("TCP_KEEPIDLE", idle, asked.map(|k| seconds(k.idle)));
        let interval = socket.tcp_keepalive_interval().map(seconds);
        let wanted = asked.and_then(|k| k.interval);
        list.value("TCP_KEEPINTVL", interval, wanted.map(seconds));
        let count = socket.tcp_keepalive_retries();
        list.value("TCP_KEEPCNT", count, asked.and_then(|k| k.count));
    }

    fn list_ip(&self, list: &mut List, socket: &SockRef<'_>, domain: Option<Domain>) {
        let tos = self.tos.map(u32::from);
        if domain == Some(Domain::IPV6) {
            list.value("IPV6_TCLASS", system::traffic_class(socket), tos);
            let asked = self.ipv6_only.then_some(true);
            list.flag("IPV6_V6ONLY", socket.only_v6(), asked);
        } else {
            list.value("IP_TOS", socket.tos_v4(), tos);
        }
        let device = system::device(socket);
        let asked = self.bind_device.clone();
        list.value("SO_BINDTODEVICE", device, asked);
    }
}

fn seconds_or_off(time: Option<&Duration>) -> String {
    time.map_or_else(|| "off".to_owned(), |time| format!("{}s", time.as_secs()))
}

/// Options with the value in force, and the value asked for where that differs.
#[derive(Debug, Default)]
struct List(Vec<String>);

impl List {
    fn flag(&mut self, name: &str, now: io::Result<bool>, asked: Option<bool>) {
        let word = |on| if on { "on" } else { "off" };
        self.value(name, now.map(word), asked.map(word));
    }

    fn value<T: Display + PartialEq>(&mut self, name: &str, now: io::Result<T>, asked: Option<T>) {
        let Ok(now) = now else { return };
        self.0.push(match asked {
            Some(asked) if asked != now => format!("{name} {now} (asked for {asked})"),
            _ => format!("{name} {now}"),
        });
    }
}
