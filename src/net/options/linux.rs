//! Options that only Linux has, or that only there can be set without `unsafe`.

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
    /// `TCP_INFO`; of a listener it tells the backlog.
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

pub(super) fn bind_device(socket: &socket2::Socket, device: &str) -> io::Result<()> {
    socket.bind_device(Some(device.as_bytes()))
}

pub(super) fn set_traffic_class(socket: &socket2::Socket, class: u32) -> io::Result<()> {
    socket.set_tclass_v6(class)
}

pub(super) fn traffic_class(socket: &SockRef<'_>) -> io::Result<u32> {
    socket.tclass_v6()
}

/// The interface (`SO_BINDTODEVICE`), or `any`.
pub(super) fn device(socket: &SockRef<'_>) -> io::Result<String> {
    let device = socket.device()?.unwrap_or_else(|| b"any".to_vec());
    Ok(String::from_utf8_lossy(&device).into_owned())
}

/// True if servers may use TCP Fast Open (`net.ipv4.tcp_fastopen` in tcp(7)).
pub(super) fn allows_fast_open() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen");
    let bits = setting.ok().and_then(|text| text.trim().parse().ok());
    bits.is_none_or(|bits: u32| bits & 2 != 0)
}

/// The length of a TCP listener's accept queue. The kernel does not tell that of a Unix socket.
pub(super) fn backlog(socket: &SockRef<'_>, unix: bool) -> io::Result<i32> {
    if unix {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let info = getsockopt(&socket.as_fd(), Info)?;
    Ok(i32::try_from(info.tcpi_sacked).unwrap_or(i32::MAX))
}
