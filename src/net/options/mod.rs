//! Socket options: the settings and how they are set (here), and those in force (`in_force.rs`).

mod in_force;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;

use std::io;
use std::time::Duration;

use socket2::{Domain, SockRef, TcpKeepalive, Type};

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(not(target_os = "linux"))]
use self::portable as system;
use super::error::cause;

/// The options of every listener and of the sockets that it accepts.
///
/// An option is not set on a kind of socket that does not have it: a Unix socket has no
/// `TCP_NODELAY`. [`Default`] gives those of the command line; assign the fields that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "options are on or off")]
pub struct SocketOptions {
    /// Connections that may wait in a listener's accept queue (listen(2)).
    pub backlog: i32,
    /// TCP: `SO_REUSEADDR` (socket(7)): a restart does not have to wait for old connections.
    pub reuse_addr: bool,
    /// TCP, UDP: `SO_REUSEPORT` (socket(7)): several processes may share an address.
    pub reuse_port: bool,
    /// `SO_RCVBUF` in bytes (socket(7)); Linux doubles it and caps it at `net.core.rmem_max`.
    pub recv_buffer: Option<usize>,
    /// `SO_SNDBUF` in bytes (socket(7)); Linux doubles it and caps it at `net.core.wmem_max`.
    pub send_buffer: Option<usize>,
    /// TCP: `TCP_NODELAY` (tcp(7)): written bytes are sent at once, in small segments too.
    pub nodelay: bool,
    /// TCP: `SO_KEEPALIVE` (tcp(7)): idle connections are probed.
    pub keepalive: Option<Keepalive>,
    /// The longest time that a closed client may take to receive its pending output; 1 s if none.
    /// The loop waits for it, because `SO_LINGER` (socket(7)) would block it in close(2). With 0,
    /// `SO_LINGER` is set: the connection is reset at once, and pending output is lost.
    pub linger: Option<Duration>,
    /// TCP, UDP: `IP_TOS` (ip(7)) or `IPV6_TCLASS`: the type of service of sent packets.
    pub tos: Option<u8>,
    /// TCP, Linux: `TCP_DEFER_ACCEPT` (tcp(7)): the seconds for which a client is not accepted
    /// unless it sends something.
    pub defer_accept: Option<u32>,
    /// TCP, Linux: `TCP_FASTOPEN` (tcp(7), RFC 7413): connections that may wait after they have
    /// sent data with their SYN.
    pub fast_open: Option<u32>,
    /// TCP, UDP, Linux: `SO_BINDTODEVICE` (socket(7)): only packets from this interface.
    pub bind_device: Option<String>,
    /// TCP, UDP: `IPV6_V6ONLY` (ipv6(7)): `[::]` does not take IPv4. If false, the system's setting
    /// (`net.ipv6.bindv6only`) applies.
    pub ipv6_only: bool,
    /// Unix: the permissions of the socket's file (chmod(2)).
    pub unix_mode: Option<u32>,
}

/// Probes of an idle TCP connection (tcp(7)); the system's settings where there is none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// Idle time before the first probe (`TCP_KEEPIDLE`), in whole seconds.
    pub idle: Duration,
    /// Time between probes (`TCP_KEEPINTVL`), in whole seconds.
    pub interval: Option<Duration>,
    /// Unanswered probes after which the connection is lost (`TCP_KEEPCNT`).
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

/// The largest size of a buffer that the kernel is given: it takes a C `int`, and would see the low bits
/// of a larger one.
const LARGEST_BUFFER: usize = i32::MAX as usize;

/// Adds the name of an option to the error of setting it.
fn named<T>(name: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{name}: {}", cause(&e))))
}

impl SocketOptions {
    /// Sets the options of a socket that is about to be bound. With `dual_stack`, an IPv6 socket
    /// takes IPv4 too.
    pub(crate) fn prepare(&self, socket: &socket2::Socket, dual_stack: bool) -> io::Result<()> {
        let domain = socket.domain()?;
        let stream = socket.r#type()? == Type::STREAM;
        self.set_buffers(&SockRef::from(socket))?;
        if domain == Domain::UNIX {
            return Ok(());
        }
        // A UDP socket that reuses an address would take the datagrams of the one bound before.
        if stream {
            named("SO_REUSEADDR", socket.set_reuse_address(self.reuse_addr))?;
            self.prepare_tcp(socket)?;
        }
        if self.reuse_port {
            named("SO_REUSEPORT", socket.set_reuse_port(true))?;
        }
        if domain == Domain::IPV6 && (dual_stack || self.ipv6_only) {
            named("IPV6_V6ONLY", socket.set_only_v6(!dual_stack))?;
        }
        if let Some(tos) = self.tos {
            named("IP_TOS", self.set_tos(socket, domain, tos))?;
        }
        if let Some(device) = &self.bind_device {
            named("SO_BINDTODEVICE", system::bind_device(socket, device))?;
        }
        Ok(())
    }

    /// Sets the type of service of IPv4 and the traffic class of IPv6: an IPv6 socket may send both.
    fn set_tos(&self, socket: &socket2::Socket, domain: Domain, tos: u8) -> io::Result<()> {
        let tos = u32::from(tos);
        if domain == Domain::IPV6 {
            system::set_traffic_class(socket, tos)?;
        }
        if domain == Domain::IPV4 || !self.ipv6_only {
            socket.set_tos_v4(tos)?;
        }
        Ok(())
    }

    fn prepare_tcp(&self, socket: &socket2::Socket) -> io::Result<()> {
        named("TCP_NODELAY", socket.set_tcp_nodelay(self.nodelay))?;
        // Urgent bytes (MSG_OOB) stay in the stream, in their order.
        named("SO_OOBINLINE", socket.set_out_of_band_inline(true))?;
        if let Some(keepalive) = self.keepalive {
            named("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive.times()))?;
        }
        if self.linger == Some(Duration::ZERO) {
            named("SO_LINGER", socket.set_linger(self.linger))?;
        }
        if let Some(seconds) = self.defer_accept {
            named(
                "TCP_DEFER_ACCEPT",
                system::set_defer_accept(socket, seconds),
            )?;
        }
        if let Some(queue) = self.fast_open {
            named("TCP_FASTOPEN", system::set_fast_open(socket, queue))?;
        }
        Ok(())
    }

    /// Sets the sizes of the buffers, which accepted Unix sockets do not inherit.
    pub(crate) fn set_buffers(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(size) = self.recv_buffer {
            let size = size.min(LARGEST_BUFFER);
            named("SO_RCVBUF", socket.set_recv_buffer_size(size))?;
        }
        if let Some(size) = self.send_buffer {
            let size = size.min(LARGEST_BUFFER);
            named("SO_SNDBUF", socket.set_send_buffer_size(size))?;
        }
        Ok(())
    }

    /// A warning about an option that the kernel accepts without effect.
    pub(crate) fn without_effect(&self) -> Option<&'static str> {
        let ineffective = self.fast_open.is_some() && !system::allows_fast_open();
        ineffective.then_some("TCP_FASTOPEN is set, but net.ipv4.tcp_fastopen does not let servers use it (2 or 3 would)")
    }
}

impl Keepalive {
    /// Probes after this idle time, with the system's interval and count.
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
