//! Shared by the tests: servers on a thread, the real binary, clients that can't hang.
//!
//! Nothing here waits by sleeping for a time that should be enough: either there is an event to
//! wait for, or [`eventually`] asks again and again until a deadline that only a failure reaches.

pub(crate) mod alone;
pub(crate) mod client;
pub(crate) mod connecting;
pub(crate) mod datagram;
pub(crate) mod flood;
pub(crate) mod loading;
pub(crate) mod misbehaving;
pub(crate) mod operator;
pub(crate) mod program;
pub(crate) mod pty;
pub(crate) mod running;
pub(crate) mod stdio;
pub(crate) mod tagged;
pub(crate) mod tool;
pub(crate) mod vanishing;
pub(crate) mod watched;
pub(crate) mod watched_room;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use resound::Address;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

/// The time after which a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A value with some of its fields changed: the library's options can't be written as literals here.
pub(crate) fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// Waits for a state that no event announces.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a value has stopped changing for a while.
pub(crate) fn settled<T: PartialEq>(what: &str, mut value: impl FnMut() -> T) -> T {
    let (mut last, mut since) = (value(), Instant::now());
    eventually(what, || {
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() >= Duration::from_millis(250)
    });
    last
}

/// A generator whose seed a failing test prints; `SEED=…` runs it again.
pub(crate) fn random() -> fastrand::Rng {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Bytes of all values.
pub(crate) fn bytes(rng: &mut fastrand::Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// Bytes of all values, of a length chosen from a range.
pub(crate) fn some_bytes(rng: &mut fastrand::Rng, lengths: Range<usize>) -> Vec<u8> {
    let length = rng.usize(lengths);
    bytes(rng, length)
}

/// A message with its length in front, 32 bits, big-endian.
pub(crate) fn frame(message: impl AsRef<[u8]>) -> Vec<u8> {
    let message = message.as_ref();
    let length = u32::try_from(message.len()).expect("it is short");
    [&length.to_be_bytes()[..], message].concat()
}

/// Compares without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    if got == expected {
        return;
    }
    let pairs = got.iter().zip(expected);
    let at = pairs.take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| {
        let near = &bytes[at.min(bytes.len())..bytes.len().min(at + 60)];
        near.escape_ascii().to_string()
    };
    panic!(
        "{} bytes instead of {} differ from byte {at} on: \"{}\" instead of \"{}\"",
        got.len(),
        expected.len(),
        show(got),
        show(expected)
    );
}

/// Makes room for the clients and the servers of crowded tests in one process. It may be called any
/// number of times: the limit is always the same one, the largest.
pub(crate) fn allow_many_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit it is allowed");
}

/// Prints one line for a test, or a part of one, that cannot run here. It is written past the test
/// harness, which shows the output of failed tests alone.
pub(crate) fn skipped(why: impl Display) {
    let test = thread::current();
    let name = test.name().unwrap_or("a test");
    let _ = writeln!(io::stderr(), "skipped: {name}: {why}");
}

/// True if there is an IPv6 to test with; prints a line if not.
pub(crate) fn has_ipv6() -> bool {
    let has = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skipped("this system has no ::1");
    }
    has
}

/// A port on an address of loopback where neither TCP nor UDP is bound.
pub(crate) fn free_port(ip: &str) -> u16 {
    loop {
        let listener = TcpListener::bind((ip, 0)).expect("loopback is large");
        let port = listener.local_addr().expect("it is bound").port();
        if UdpSocket::bind((ip, port)).is_ok() {
            return port;
        }
    }
}

/// A folder of a test's own; it is removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of something in it as an address to listen on.
    pub(crate) fn unix(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// The same for datagrams.
    pub(crate) fn unixgram(&self, name: &str) -> String {
        format!("unixgram:{}", self.path(name).display())
    }

    /// The path as an address to connect to.
    pub(crate) fn address(&self, name: &str) -> Address {
        Address::Unix(self.path(name).into())
    }

    /// Waits for a server there without being its client. The file is there a little before it listens:
    /// `__SO_ACCEPTCON` among the flags in /proc/net/unix.
    #[track_caller]
    pub(crate) fn wait_for_listener(&self, name: &str) {
        let path = self.path(name).display().to_string();
        eventually("a listener", || {
            let sockets = std::fs::read("/proc/net/unix").expect("Linux has it");
            let sockets = String::from_utf8_lossy(&sockets);
            let mut lines = sockets.lines();
            lines.any(|line| line.ends_with(&path) && line.contains(" 00010000 "))
        });
    }
}
