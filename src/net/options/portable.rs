//! The same functions on other systems: there are no such options.

use std::io;

use socket2::SockRef;

fn absent() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this system does not have it")
}

pub(super) fn bind_device(_: &socket2::Socket, _: &str) -> io::Result<()> {
    Err(absent())
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
