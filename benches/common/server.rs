//! A server in a process of its own: the bench's executable, started another time.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::{TIMEOUT, give_up};
use super::cores::{cores, take};
use crate::peers::{Kind, Program};

/// The variable that makes the executable a server: program, kind, and core.
const ROLE: &str = "RESOUND_BENCH_SERVER";

/// The time between two looks at a server that should end.
const PAUSE: Duration = Duration::from_millis(1);

/// A server process. The end of its standard input stops it, so that none outlives its bench.
pub(crate) struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    pub(crate) fn start(program: Program, kind: Kind) -> Self {
        let core = cores().map_or("-".to_string(), |cores| cores.server.to_string());
        let executable = env::current_exe().expect("the system knows what it runs");
        let started = Command::new(executable)
            .env(ROLE, format!("{} {} {core}", program.name(), kind.name()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child =
            started.unwrap_or_else(|e| give_up(format_args!("cannot start a server: {e}")));
        let output = child.stdout.take().expect("it is a pipe");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("the server prints its address");
        match line.trim_end().parse() {
            Ok(address) => Self { child, address },
            Err(_) => give_up("a server has not started"),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server, after its clients.
    pub(crate) fn stop(mut self) {
        drop(self.child.stdin.take());
        let since = Instant::now();
        while since.elapsed() < TIMEOUT {
            match self.child.try_wait().expect("it is our child") {
                Some(status) if status.success() => return,
                Some(status) => give_up(format_args!("a server has failed: {status}")),
                None => thread::sleep(PAUSE),
            }
        }
        let _ = self.child.kill();
        give_up("a server doesn't stop");
    }
}

/// Serves, if this process was started to be a server; its exit code if so.
pub(crate) fn was_server() -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    let mut words = role.split(' ');
    let program = words.next().and_then(Program::named);
    let kind = words.next().and_then(Kind::named);
    if let Some(core) = words.next().and_then(|core| core.parse().ok()) {
        take(core);
    }
    raise_descriptor_limit();
    let (Some(program), Some(kind)) = (program, kind) else {
        give_up(format_args!("there is no server '{role}'"));
    };
    program.serve(kind);
    Some(ExitCode::SUCCESS)
}

/// A thousand connections are more than the usual limit. If the system refuses, the benches with
/// few clients work all the same.
pub(crate) fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
