//! The real binary as a process, and what the system knows of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use resound::Address;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::client::Client;
use super::eventually;

const BINARY: &str = env!("CARGO_BIN_EXE_resound");

/// A process of the binary; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// The lines it has written to standard error.
    log: Arc<Mutex<Vec<String>>>,
    logger: Option<JoinHandle<()>>,
}

/// The exit code of a process, and its output.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Empty if it was a stream of the test's own.
    pub(crate) stdout: String,
    pub(crate) log: Vec<String>,
}

/// Runs the binary with arguments with which it ends by itself.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Ended {
    Program::spawn(command(args)).wait()
}

/// Its one line of complaint, when it ends with this code.
#[track_caller]
pub(crate) fn complaint(args: &[&str], code: i32) -> String {
    let ended = run(args);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""));
    assert_eq!(ended.log.len(), 1, "{args:?}: {ended:?}");
    ended.log[0].clone()
}

/// The binary with these arguments, its output captured, in an environment that sets nothing
/// of logs.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args);
    plain(command)
}

/// The same, started by a script of sh as `exec "$0" "$@"`.
fn in_shell(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY]).args(args);
    plain(command)
}

fn plain(mut command: Command) -> Command {
    for name in ["RUST_LOG", "RUST_LOG_STYLE", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Ended {
    /// The summary in its last line.
    #[track_caller]
    pub(crate) fn summary(&self) -> &str {
        let last = self
            .log
            .last()
            .and_then(|line| line.split_once("stopped: "));
        last.unwrap_or_else(|| panic!("{self:#?}")).1
    }
}

impl Program {
    /// Starts it; it is ready.
    #[track_caller]
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(command(args)).ready()
    }

    /// The same with variables in its environment.
    #[track_caller]
    pub(crate) fn start_with(variables: &[(&str, &str)], args: &[&str]) -> Self {
        let mut command = command(args);
        command.envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Starts it through a script of sh that ends with `exec "$0" "$@"`.
    #[track_caller]
    pub(crate) fn start_in_shell(script: &str, args: &[&str]) -> Self {
        Self::spawn(in_shell(script, args))
    }

    /// Starts it through a shell with job control, at a terminal that controls them. None if this
    /// system lacks setsid(1).
    #[track_caller]
    pub(crate) fn start_at_terminal(script: &str, args: &[&str], terminal: File) -> Option<Self> {
        let twin = terminal.try_clone().expect("there are descriptors");
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-m", "-c", script, BINARY]);
        command.args(args);
        let mut command = plain(command);
        command.stdin(terminal).stdout(twin);
        if Command::new("setsid").arg("--version").output().is_err() {
            return None;
        }
        Some(Self::spawn(command).ready())
    }

    /// Starts it as the first process of a container; [`Program::signal_child`] reaches it. None where
    /// unshare(1) is missing, or may not make one.
    #[track_caller]
    pub(crate) fn start_as_first_process(args: &[&str]) -> Option<Self> {
        let unshare = ["--map-root-user", "--pid", "--fork", "--kill-child"];
        let mut command = Command::new("unshare");
        let possible = command.args(unshare).arg("true").output();
        if !possible.is_ok_and(|output| output.status.success()) {
            return None;
        }
        command = Command::new("unshare");
        command.args(unshare).arg(BINARY).args(args);
        Some(Self::spawn(plain(command)))
    }

    /// Starts it on standard streams of the test's own; it is ready.
    #[track_caller]
    pub(crate) fn start_on(args: &[&str], stdin: impl Into<Stdio>, out: impl Into<Stdio>) -> Self {
        Self::spawn_on(args, stdin, out).ready()
    }

    /// The same for arguments with which it may end by itself.
    #[track_caller]
    pub(crate) fn spawn_on(args: &[&str], stdin: impl Into<Stdio>, out: impl Into<Stdio>) -> Self {
        let mut command = command(args);
        command.stdin(stdin).stdout(out);
        Self::spawn(command)
    }

    /// Starts it with a standard error that its reader closes once it is ready.
    #[track_caller]
    pub(crate) fn start_with_closed_stderr(args: &[&str]) -> Self {
        let mut child = command(args).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("ready")));
        assert!(ready, "it has ended");
        Self {
            child,
            log: Arc::default(),
            logger: None,
        }
    }

    #[track_caller]
    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&log);
        let logger = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                copy.lock().expect("no holder panics").push(line);
            }
        });
        Self {
            child,
            log,
            logger: Some(logger),
        }
    }

    /// Waits until it logs that it is ready.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Self {
        eventually("the ready line", || {
            let ended = self.child.try_wait().expect("it is a child");
            assert_eq!(ended, None, "{:#?}", self.log());
            self.has_logged("ready")
        });
        self
    }

    /// The lines it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no holder panics").clone()
    }

    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.log().iter().any(|line| line.contains(text))
    }

    /// Waits until it has logged this, which may be read a little after what follows from it.
    #[track_caller]
    pub(crate) fn will_have_logged(&self, text: &str) {
        eventually(&format!("\"{text}\" in the log"), || self.has_logged(text));
    }

    /// The addresses that it logs as listening.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let log = self.log();
        let after = |line: &String| Some(line.split_once("listening on ")?.1.to_owned());
        let bare = |text: String| text.split(" (").next().map(str::to_owned);
        log.iter()
            .filter_map(after)
            .filter_map(bare)
            .map(|a| parse(&a))
            .collect()
    }

    /// The first of them.
    #[track_caller]
    pub(crate) fn address(&self) -> Address {
        self.addresses().swap_remove(0)
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.address())
    }

    /// Connects a client and returns when it is served: what is published from now on is for it.
    /// The program has to log its clients (`-v`).
    #[track_caller]
    pub(crate) fn admit(&self, client: fn(&Address) -> Client) -> Client {
        let client = client(&self.address());
        let connected = format!("({}) connected", client.name());
        self.will_have_logged(&connected);
        client
    }

    /// Asks for the statistics by signal; returns those lines of the log that are about them.
    /// Works only once.
    #[track_caller]
    pub(crate) fn report(&self) -> Vec<String> {
        self.signal(Signal::USR1);
        self.will_have_logged("] closed: ");
        let text = |line: &String| Some(line.split_once("] ")?.1.to_owned());
        let lines: Vec<String> = self.log().iter().filter_map(text).collect();
        let start = lines.iter().rposition(|l| l.starts_with("clients: "));
        lines[start.expect("it starts with them")..].to_vec()
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        sent.expect("it hasn't been waited for");
    }

    /// Sends a signal again and again until the process ends.
    #[track_caller]
    pub(crate) fn signal_until_it_ends(mut self, signal: Signal) -> Ended {
        eventually("its end", || {
            let has_ended = self.child.try_wait().expect("it is a child").is_some();
            if !has_ended {
                self.signal(signal);
            }
            has_ended
        });
        self.wait()
    }

    /// Continues the process, once it has stopped.
    #[track_caller]
    pub(crate) fn continue_once_stopped(&self) {
        let child = Pid::from_child(&self.child);
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        eventually("the process has stopped", || {
            let stopped = waitid(WaitId::Pid(child), options).expect("it is a child");
            stopped.is_some()
        });
        self.signal(Signal::CONT);
    }

    /// Sends a signal to the only child of the process.
    #[track_caller]
    pub(crate) fn signal_child(&self, signal: Signal) {
        let children = self.proc(&format!("task/{}/children", self.child.id()));
        let child = children.trim().parse().expect("there is one");
        let child = Pid::from_raw(child).expect("it is not 0");
        kill_process(child, signal).expect("it runs");
    }

    #[track_caller]
    pub(crate) fn terminate(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let mut status: Option<ExitStatus> = None;
        eventually("the program's end", || {
            status = self.child.try_wait().expect("it is a child");
            status.is_some()
        });
        if let Some(logger) = self.logger.take() {
            logger.join().expect("it only collects");
        }
        let mut stdout = String::new();
        if let Some(pipe) = &mut self.child.stdout {
            pipe.read_to_string(&mut stdout).expect("it is text");
        }
        Ended {
            code: status.and_then(|s| s.code()),
            stdout,
            log: self.log(),
        }
    }

    /// The contents of one of its files in /proc.
    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(path).expect("it runs")
    }

    /// The number of its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(path).expect("it runs").count()
    }

    /// The most memory that was ever resident, in KiB (`VmHWM` in proc(5)).
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The number of its sleeps so far (`voluntary_ctxt_switches` in proc(5)).
    pub(crate) fn sleeps(&self) -> u64 {
        self.status("voluntary_ctxt_switches:")
    }

    /// A number of `status` in proc(5).
    fn status(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        let words = line.expect("Linux tells it").split_whitespace();
        words.map_while(|w| w.parse::<u64>().ok()).sum()
    }

    /// CPU time used so far, in clock ticks: user and system time of proc(5), `stat`.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        let (_, after_name) = stat.rsplit_once(')').expect("there is a name");
        let fields = after_name.split_whitespace().skip(11).take(2);
        fields.map(|f| f.parse::<u64>().expect("a number")).sum()
    }

    /// Asserts that it sleeps: over a while it uses next to no CPU time.
    #[track_caller]
    pub(crate) fn assert_idle(&self) {
        let before = self.cpu_ticks();
        thread::sleep(Duration::from_millis(500));
        let used = self.cpu_ticks() - before;
        // A loop that spins uses all the 50 there are, or half of them beside another test.
        assert!(used <= 5, "{used} ticks of CPU time in half a second");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(text: &str) -> Address {
    let path = |text: &str| Path::new(text).into();
    let ip = |text: &str| text.parse().expect("it is an address");
    if let Some(text) = text.strip_prefix("unix:") {
        Address::Unix(path(text))
    } else if let Some(text) = text.strip_prefix("unixgram:") {
        Address::UnixDatagram(path(text))
    } else if let Some(text) = text.strip_prefix("udp://") {
        Address::Udp(ip(text))
    } else {
        Address::Tcp(ip(text))
    }
}
