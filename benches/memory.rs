//! Costs of an idle client: bytes of the server's memory, counted in `/proc`, not timed.
//! The kernel's memory for the socket is not included; it is the same for all.

use std::env;
use std::fs;
use std::path::Path;

use crate::common::client::{Client, give_up};
use crate::common::print;
use crate::common::remote::remote;
use crate::common::room::{LINE, gather, lines};
use crate::common::server::{Running, raise_descriptor_limit};
use crate::peers::{Kind, Program};
use crate::report::memory::{Cost, Counted};
use crate::report::results;
use rustix::process::{Resource, getrlimit};

/// Idle clients, and how many a test counts with.
const CLIENTS: usize = 5000;
const TESTED: usize = 20;

/// Counts, if the arguments of the benches ask for it.
pub(crate) fn run() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if remote().is_some() || !Path::new("/proc/self/smaps_rollup").exists() {
        eprintln!("memory: it can be counted of servers on this machine alone, if it has /proc");
    } else if has("--list") {
        print("memory: benchmark");
    } else if filters(&arguments).all(|filter| "memory".contains(filter)) {
        raise_descriptor_limit();
        let measured = has("--bench") && !has("--test");
        let counted = count(if measured { most() } else { TESTED });
        if measured {
            let stored = counted.write(&results::directory());
            stored.unwrap_or_else(|e| give_up(format_args!("cannot keep the results: {e}")));
            print(&format!("\n{}", counted.table()));
        } else {
            print("Testing memory\nSuccess");
        }
    }
}

/// Those of criterion's arguments that are no options.
fn filters(arguments: &[String]) -> impl Iterator<Item = &str> {
    const FLAGS: [&str; 12] = [
        "--bench",
        "--test",
        "--noplot",
        "--quick",
        "--exact",
        "--verbose",
        "-v",
        "--quiet",
        "-n",
        "--discard-baseline",
        "--nocapture",
        "--ignored",
    ];
    let takes_value = |argument: &str| {
        argument.starts_with('-') && !argument.contains('=') && !FLAGS.contains(&argument)
    };
    let before = [""].into_iter().chain(arguments.iter().map(String::as_str));
    let words = before.zip(arguments);
    words
        .filter(move |(before, argument)| !takes_value(before) && !argument.starts_with('-'))
        .map(|(_, argument)| argument.as_str())
}

/// As many clients as the limit of descriptors allows, two for each program that needs two.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let clients = usize::try_from(limit.saturating_sub(100) / 2);
    clients.unwrap_or(usize::MAX).clamp(1, CLIENTS)
}

fn count(clients: usize) -> Counted {
    let mut costs = Vec::new();
    for kind in [Kind::Echo, Kind::Broadcast] {
        for program in Program::all(kind) {
            let server = Running::start(program, kind);
            let grown = growth(&server, kind, clients);
            server.stop();
            costs.push(Cost {
                service: kind.name().to_string(),
                program: program.name().to_string(),
                bytes: grown / clients as u64,
            });
        }
    }
    Counted { clients, costs }
}

/// The growth of the server, in bytes, for `clients` more. Two earlier ones make it set up
/// all that it has only once.
fn growth(server: &Running, kind: Kind, clients: usize) -> u64 {
    let mut first = Client::many(server.address(), 2);
    serve(&mut first, kind);
    let before = resident(server);
    let mut all = first;
    all.extend(Client::many(server.address(), clients));
    serve(&mut all, kind);
    resident(server).saturating_sub(before)
}

/// Each is served once, which shows that it was accepted; after that it is idle.
fn serve(clients: &mut [Client], kind: Kind) {
    if kind == Kind::Broadcast {
        let (publisher, others) = clients.split_first_mut().expect("there are some");
        gather(publisher, others.iter_mut());
    } else {
        let (line, mut buffer) = (lines("hello", 1), Vec::with_capacity(LINE));
        for client in &mut *clients {
            client.send(&line);
        }
        for client in clients {
            client.receive(&line, &mut buffer);
        }
    }
}

/// Bytes of the server's memory that are not on disk, as is its program.
fn resident(server: &Running) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", server.process());
    let all = fs::read_to_string(path).unwrap_or_else(|e| give_up(e));
    let mut words = all.lines().filter_map(|line| line.split_once(':'));
    let kib = words
        .find(|(name, _)| *name == "Anonymous")
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok());
    kib.map_or_else(|| give_up("/proc has no size"), |kib: u64| kib * 1024)
}
