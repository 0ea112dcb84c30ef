//! Socket options: what is asked for, how it is set, and what the kernel made of it.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use socket2::{Domain, SockRef, TcpKeepalive, Type};

use super::error::cause;

/// The options of every listener; accepted sockets have them, too.
///
/// An option that a kind of socket doesn't have is left out there: there is no `TCP_NODELAY` of a
/// Unix socket. [`Default`] gives those of the command line; assign the fields that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "options are on or off")]
pub struct SocketOptions {
    /// Connections that may wait in a listener's backlog to be accepted (listen(2)).
    pub backlog: i32,
    /// TCP: `SO_REUSEADDR` (socket(7)): a restart doesn't wait for old connections.
    pub reuse_addr: bool,
    /// TCP, UDP: `SO_REUSEPORT` (socket(7)): several processes share an address.
    pub reuse_port: bool,
    /// `SO_RCVBUF` in bytes (socket(7)); Linux doubles it and caps it at `net.core.rmem_max`.
    pub recv_buffer: Option<usize>,
    /// `SO_SNDBUF` in bytes (socket(7)); Linux doubles it and caps it at `net.core.wmem_max`.
    pub send_buffer: Option<usize>,
    /// TCP: `TCP_NODELAY` (tcp(7)): what is written goes out at once.
    pub nodelay: bool,
    /// TCP: `SO_KEEPALIVE` (tcp(7)): silent peers are asked for a sign of life.
    pub keepalive: Option<Keepalive>,
    /// How long a client that is being closed may take for what it was sent; 1 s if none. What
    /// `SO_LINGER` (socket(7)) would do in close(2), for which everybody would have to wait, the loop does; 0
    /// is `SO_LINGER` with 0: it is closed at once, by a reset, and what it has not taken is lost.
    pub linger: Option<Duration>,
    /// TCP, UDP: `IP_TOS` (ip(7)) or `IPV6_TCLASS`: the type of service of what is sent.
    pub tos: Option<u8>,
    /// TCP, Linux: `TCP_DEFER_ACCEPT` (tcp(7)) in seconds: who sends nothing isn't accepted for so long.
    pub defer_accept: Option<u32>,
    /// TCP, Linux: `TCP_FASTOPEN` (tcp(7), RFC 7413): how many may wait that have sent data with
    /// their SYN.
    pub fast_open: Option<u32>,
    /// TCP, UDP, Linux: `SO_BINDTODEVICE` (socket(7)): only what comes through this interface.
    pub bind_device: Option<String>,
    /// TCP, UDP: `IPV6_V6ONLY` (ipv6(7)): `[::]` doesn't take IPv4; the system's setting if it isn't set.
    pub ipv6_only: bool,
    /// Unix: the permissions of the socket's file.
    pub unix_mode: Option<u32>,
}

/// When and how often a silent peer is asked for a sign of life; the system's settings where there
/// is none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// After so long (`TCP_KEEPIDLE`), in whole seconds.
    pub idle: Duration,
    /// And again after so long (`TCP_KEEPINTVL`), in whole seconds.
    pub interval: Option<Duration>,
    /// So many times (`TCP_KEEPCNT`).
    pub count: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_addr: true,
            reuse_port: false,
            recv_buffer: None,
            send_buffer: None,
            nodelay: true,
            keepalive: None,
            linger: None,
            tos: None,
            defer_accept: None,
            fast_open: None,
            bind_device: None,
            ipv6_only: false,
            unix_mode: None,
        }
    }
}

/// What an option is called when it can't be set.
fn named<T>(name: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{name}: {}", cause(&e))))
}

impl SocketOptions {
    /// Sets what a socket needs before it is bound; `dual`: it takes both families.
    pub(crate) fn prepare(&self, socket: &socket2::Socket, dual: bool) -> io::Result<()> {
        let domain = socket.domain()?;
        let stream = socket.r#type()? == Type::STREAM;
        self.set_buffers(&SockRef::from(socket))?;
        if domain == Domain::UNIX {
            return Ok(());
        }
        // A UDP socket that reuses an address steals from who has it.
        if stream {
            named("SO_REUSEADDR", socket.set_reuse_address(self.reuse_addr))?;
            self.prepare_tcp(socket)?;
        }
        if self.reuse_port {
            named("SO_REUSEPORT", socket.set_reuse_port(true))?;
        }
        if domain == Domain::IPV6 && (dual || self.ipv6_only) {
            named("IPV6_V6ONLY", socket.set_only_v6(!dual))?;
        }
        if let Some(tos) = self.tos {
            named("IP_TOS", self.set_tos(socket, domain, tos))?;
        }
        if let Some(device) = &self.bind_device {
            named("SO_BINDTODEVICE", bind_device(socket, device))?;
        }
        Ok(())
    }

    /// The type of service of IPv4, and of IPv6 the traffic class: sockets of IPv6 may speak both.
    fn set_tos(&self, socket: &socket2::Socket, domain: Domain, tos: u8) -> io::Result<()> {
        let tos = u32::from(tos);
        if domain == Domain::IPV6 {
            linux::set_traffic_class(socket, tos)?;
        }
        if domain == Domain::IPV4 || !self.ipv6_only {
            socket.set_tos_v4(tos)?;
        }
        Ok(())
    }

    fn prepare_tcp(&self, socket: &socket2::Socket) -> io::Result<()> {
        named("TCP_NODELAY", socket.set_tcp_nodelay(self.nodelay))?;
        // Bytes sent as urgent (MSG_OOB) are bytes: in their place, not lost.
        named("SO_OOBINLINE", socket.set_out_of_band_inline(true))?;
        if let Some(keepalive) = self.keepalive {
            named("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive.times()))?;
        }
        if self.linger == Some(Duration::ZERO) {
            named("SO_LINGER", socket.set_linger(self.linger))?;
        }
        if let Some(seconds) = self.defer_accept {
            named("TCP_DEFER_ACCEPT", linux::set_defer_accept(socket, seconds))?;
        }
        if let Some(queue) = self.fast_open {
            named("TCP_FASTOPEN", linux::set_fast_open(socket, queue))?;
        }
        Ok(())
    }

    /// Sets the sizes of buffers, which sockets of Unix don't inherit.
    pub(crate) fn set_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(size) = self.recv_buffer {
            named("SO_RCVBUF", socket.set_recv_buffer_size(size))?;
        }
        if let Some(size) = self.send_buffer {
            named("SO_SNDBUF", socket.set_send_buffer_size(size))?;
        }
        Ok(())
    }

    /// What the kernel takes but makes nothing of, in words.
    pub(crate) fn in_vain(&self) -> Option<&'static str> {
        let vain = self.fast_open.is_some() && !linux::allows_fast_open();
        vain.then_some("TCP_FASTOPEN is set, but net.ipv4.tcp_fastopen doesn't let servers use it (2 or 3 would)")
    }

    /// What the kernel says is in force (getsockopt(2)), such as `SO_RCVBUF 131072 (asked for
    /// 65536), TCP_NODELAY on`. What it doesn't tell is left out.
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
            let defer = linux::defer_accept(socket).map(|s| format!("{s}s"));
            let asked = self.defer_accept.map(|s| format!("{s}s"));
            list.value("TCP_DEFER_ACCEPT", defer, asked);
            list.value("TCP_FASTOPEN", linux::fast_open(socket), self.fast_open);
        }
        if !unix {
            self.list_ip(&mut list, socket, domain.ok());
        }
        if stream {
            list.value("backlog", linux::backlog(socket, unix), Some(self.backlog));
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
            list.value("IPV6_TCLASS", linux::traffic_class(socket), tos);
            let asked = self.ipv6_only.then_some(true);
            list.flag("IPV6_V6ONLY", socket.only_v6(), asked);
        } else {
            list.value("IP_TOS", socket.tos_v4(), tos);
        }
        let device = linux::device(socket);
        let asked = self.bind_device.clone();
        list.value("SO_BINDTODEVICE", device, asked);
    }
}

impl Keepalive {
    /// Keepalive after so long an idle time, with the system's interval and count.
    #[must_use]
    pub const fn new(idle: Duration) -> Self {
        Self {
            idle,
            interval: None,
            count: None,
        }
    }

    fn times(self) -> TcpKeepalive {
        let mut times = TcpKeepalive::new().with_time(self.idle);
        if let Some(interval) = self.interval {
            times = times.with_interval(interval);
        }
        if let Some(count) = self.count {
            times = times.with_retries(count);
        }
        times
    }
}

#[cfg(target_os = "linux")]
fn bind_device(socket: &socket2::Socket, device: &str) -> io::Result<()> {
    socket.bind_device(Some(device.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn bind_device(_: &socket2::Socket, _: &str) -> io::Result<()> {
    Err(linux::absent())
}

fn seconds_or_off(time: Option<&Duration>) -> String {
    time.map_or_else(|| "off".to_owned(), |time| format!("{}s", time.as_secs()))
}

/// Options by name, with what is in force, and where that differs what was asked for.
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

/// What only Linux has, or what only there is safe to call.
#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::AsFd;

    use nix::sys::socket::{getsockopt, setsockopt};
    use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
    use socket2::SockRef;

    sockopt_impl!(
        /// `TCP_DEFER_ACCEPT`, in seconds.
        DeferAccept,
        Both,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        u32
    );
    sockopt_impl!(
        /// `TCP_FASTOPEN`, the length of the queue.
        FastOpen,
        Both,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        u32
    );
    sockopt_impl!(
        /// `TCP_INFO`: of a listener, among others, the backlog.
        Info,
        GetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        libc::tcp_info
    );

    pub(super) fn set_defer_accept(socket: &impl AsFd, seconds: u32) -> io::Result<()> {
        Ok(setsockopt(socket, DeferAccept, &seconds)?)
    }

    pub(super) fn defer_accept(socket: &SockRef<'_>) -> io::Result<u32> {
        Ok(getsockopt(&socket.as_fd(), DeferAccept)?)
    }

    pub(super) fn set_fast_open(socket: &impl AsFd, queue: u32) -> io::Result<()> {
        Ok(setsockopt(socket, FastOpen, &queue)?)
    }

    pub(super) fn fast_open(socket: &SockRef<'_>) -> io::Result<u32> {
        Ok(getsockopt(&socket.as_fd(), FastOpen)?)
    }

    pub(super) fn set_traffic_class(socket: &socket2::Socket, class: u32) -> io::Result<()> {
        socket.set_tclass_v6(class)
    }

    pub(super) fn traffic_class(socket: &SockRef<'_>) -> io::Result<u32> {
        socket.tclass_v6()
    }

    /// The interface, or `any`.
    pub(super) fn device(socket: &SockRef<'_>) -> io::Result<String> {
        let device = socket.device()?.unwrap_or_else(|| b"any".to_vec());
        Ok(String::from_utf8_lossy(&device).into_owned())
    }

    /// Whether servers may use TCP Fast Open (`net.ipv4.tcp_fastopen` in tcp(7)).
    pub(super) fn allows_fast_open() -> bool {
        let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen");
        let bits = setting.ok().and_then(|text| text.trim().parse().ok());
        bits.is_none_or(|bits: u32| bits & 2 != 0)
    }

    /// How many may wait to be accepted: of TCP the kernel tells it, of Unix sockets only its cap.
    pub(super) fn backlog(socket: &SockRef<'_>, unix: bool) -> io::Result<i32> {
        if unix {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let info = getsockopt(&socket.as_fd(), Info)?;
        Ok(i32::try_from(info.tcpi_sacked).unwrap_or(i32::MAX))
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use std::io;

    use socket2::SockRef;

    pub(super) fn absent() -> io::Error {
        io::Error::new(io::ErrorKind::Unsupported, "this system doesn't have it")
    }

    pub(super) fn set_defer_accept(_: &socket2::Socket, _: u32) -> io::Result<()> {
        Err(absent())
    }

    pub(super) fn defer_accept(_: &SockRef<'_>) -> io::Result<u32> {
        Err(absent())
    }

    pub(super) fn set_fast_open(_: &socket2::Socket, _: u32) -> io::Result<()> {
        Err(absent())
    }

    pub(super) fn fast_open(_: &SockRef<'_>) -> io::Result<u32> {
        Err(absent())
    }

    pub(super) fn set_traffic_class(_: &socket2::Socket, _: u32) -> io::Result<()> {
        Err(absent())
    }

    pub(super) fn allows_fast_open() -> bool {
        true
    }

    pub(super) fn traffic_class(_: &SockRef<'_>) -> io::Result<u32> {
        Err(absent())
    }

    pub(super) fn device(_: &SockRef<'_>) -> io::Result<String> {
        Err(absent())
    }

    pub(super) fn backlog(_: &SockRef<'_>, _: bool) -> io::Result<i32> {
        Err(absent())
    }
}
