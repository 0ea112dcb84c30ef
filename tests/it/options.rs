//! Socket options: the values in force, their effects, and errors.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::client::Client;
use crate::common::datagram::Sender;
use crate::common::program::{Program, complaint};
use crate::common::{DEADLINE, Folder, eventually, has_ipv6, skipped};
use resound::Address;
use rustix::process::Signal;

/// A listener of each kind, in a folder of their own.
struct Kinds(Folder);

impl Kinds {
    const TCP: usize = 0;
    const UDP: usize = 1;
    const UNIX: usize = 2;
    const UNIXGRAM: usize = 3;

    fn new() -> Self {
        Self(Folder::new())
    }

    /// An echo server with these options that logs those in force.
    #[track_caller]
    fn start(&self, options: &[&str]) -> Program {
        let (stream, datagram) = (self.0.unix("stream"), self.0.unixgram("datagram"));
        let listen = ["-l127.0.0.1:0", "-ludp://127.0.0.1:0", "-l", &stream, "-l"];
        let listen = [&["echo", "-v"], &listen[..], &[&datagram]].concat();
        Program::start(&[&listen[..], options].concat())
    }
}

/// The options in force of each listener, of which each has one line.
#[track_caller]
fn in_force(program: &Program) -> Vec<Vec<String>> {
    let log = program.log();
    let of = |address: &Address| {
        let start = format!("DEBUG] {address}: SO_");
        let mut lines = log.iter().filter(|line| line.contains(&start));
        let line = lines.next().expect("it has a line");
        assert_eq!(lines.next(), None, "another line");
        let (_, options) = line.split_once(&format!("{address}: ")).expect("it does");
        options.split(", ").map(str::to_owned).collect()
    };
    program.addresses().iter().map(of).collect()
}

/// Asserts for each kind of listener whether an option is in force.
#[track_caller]
fn assert_in_force(options: &[&str], expected: &str, kinds: &[usize]) {
    let folder = Kinds::new();
    let program = folder.start(options);
    for (kind, listed) in in_force(&program).iter().enumerate() {
        let lists = listed.iter().any(|option| option == expected);
        let should = kinds.contains(&kind);
        assert_eq!(lists, should, "{expected} of listener {kind}: {listed:?}");
    }
    for address in program.addresses() {
        if !address.is_datagram() {
            let client = Client::connect(&address);
            client.send("hello");
            client.receives("hello");
        }
    }
}

/// A limit of the system.
#[cfg(target_os = "linux")]
#[track_caller]
fn limit(name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/sys/net/core/{name}"));
    let number = text.expect("Linux has it").trim().parse();
    number.expect("it is a number")
}

#[test]
fn without_options_the_defaults_are_in_force() {
    let folder = Kinds::new();
    let program = folder.start(&[]);
    let listed = in_force(&program);
    let has = |kind: usize, option: &str| {
        assert!(listed[kind].iter().any(|o| o == option), "{listed:?}");
    };
    for option in [
        "SO_REUSEADDR on",
        "SO_REUSEPORT off",
        "TCP_NODELAY on",
        "SO_KEEPALIVE off",
        "SO_LINGER off",
        "idle-timeout unlimited",
        "write-timeout unlimited",
        "spin off",
    ] {
        has(Kinds::TCP, option);
    }
    // A second socket bound to the same UDP port would take its datagrams.
    has(Kinds::UDP, "SO_REUSEADDR off");
    for kind in [Kinds::UNIX, Kinds::UNIXGRAM] {
        let tcp = listed[kind].iter().any(|o| o.contains("TCP_"));
        assert!(!tcp, "{listed:?}");
    }
    let asked = listed.iter().flatten().any(|o| o.contains("asked for"));
    assert!(!asked, "{listed:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn each_option_is_in_force_where_there_is_such_a_thing() {
    const TCP: &[usize] = &[Kinds::TCP];
    const IP: &[usize] = &[Kinds::TCP, Kinds::UDP];
    for (options, expected, kinds) in [
        (&["--no-reuse-addr"][..], "SO_REUSEADDR off", IP),
        (&["--reuse-port"], "SO_REUSEPORT on", IP),
        (&["--no-nodelay"], "TCP_NODELAY off", TCP),
        (&["--keepalive=60s"], "TCP_KEEPIDLE 60s", TCP),
        (&["--keepalive=60s,10s"], "TCP_KEEPINTVL 10s", TCP),
        (&["--keepalive=60s,10s,3"], "TCP_KEEPCNT 3", TCP),
        (&["--keepalive=60s,10s,3"], "SO_KEEPALIVE on", TCP),
        (&["--linger=0s"], "SO_LINGER 0s", TCP),
        // A value other than 0 is kept by the loop, so that close(2) never blocks.
        (&["--linger=3s"], "SO_LINGER off", TCP),
        (&["--defer-accept=7s"], "TCP_DEFER_ACCEPT 7s", TCP),
        (
            &["--defer-accept=5s"],
            "TCP_DEFER_ACCEPT 7s (asked for 5s)",
            TCP,
        ),
        (&["--fast-open=16"], "TCP_FASTOPEN 16", TCP),
        (&["--tos=0x10"], "IP_TOS 16", IP),
        (&["--dscp=ef"], "IP_TOS 184", IP),
        (&["--dscp=af41"], "IP_TOS 136", IP),
        // The two lowest bits are TCP's own (ECN).
        (&["--tos=17"], "IP_TOS 16 (asked for 17)", TCP),
        (&["--backlog=9"], "backlog 9", TCP),
        (
            &["--idle-timeout=90s"],
            "idle-timeout 1m 30s",
            &[0, 1, 2, 3],
        ),
        (&["--write-timeout=5s"], "write-timeout 5s", &[0, 1, 2, 3]),
        (&["--spin=50us"], "spin 50us", &[0, 1, 2, 3]),
    ] {
        assert_in_force(options, expected, kinds);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn buffers_are_doubled_and_capped_by_the_system() {
    for (option, name, limit) in [
        ("--recv-buffer", "SO_RCVBUF", limit("rmem_max")),
        ("--send-buffer", "SO_SNDBUF", limit("wmem_max")),
    ] {
        for asked in [64 * 1024, 1 << 30] {
            let doubled = 2 * asked.min(limit);
            let expected = format!("{name} {doubled} (asked for {asked})");
            let option = format!("{option}={asked}");
            assert_in_force(&[&option], &expected, &[0, 1, 2, 3]);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn queues_are_capped_by_the_system() {
    let most = limit("somaxconn");
    let asked = 2_000_000_000;
    let expected = format!("backlog {most} (asked for {asked})");
    let option = format!("--backlog={asked}");
    assert_in_force(&[&option], &expected, &[Kinds::TCP]);
    let expected = match most {
        ..65535 => format!("TCP_FASTOPEN {most} (asked for 65535)"),
        _ => "TCP_FASTOPEN 65535".to_owned(),
    };
    assert_in_force(&["--fast-open=65535"], &expected, &[Kinds::TCP]);
}

/// The lines of ss(8), one for each socket; none where there is no ss.
fn ss(args: &[&str]) -> Option<Vec<String>> {
    let Ok(output) = Command::new("ss").args(args).output() else {
        skipped("there is no ss here");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("it is text");
    let text = text.replace("\n\t", " ");
    Some(text.lines().map(str::to_owned).collect())
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_has_the_options_of_its_listener() {
    let options = ["--recv-buffer=64KiB", "--send-buffer=32KiB", "--dscp=ef"];
    let args = [
        &["echo", "-l", "127.0.0.1:0", "--keepalive=77s"],
        &options[..],
    ];
    let program = Program::start(&args.concat());
    let client = program.connect();
    client.send("hello");
    client.receives("hello");
    let from = format!("dport = {}", client.name().rsplit_once(':').unwrap().1);
    let received = 2 * limit("rmem_max").min(64 * 1024);
    let sent = 2 * limit("wmem_max").min(32 * 1024);
    let (received, sent) = (format!(",rb{received},"), format!(",tb{sent},"));
    let mut found = String::new();
    // Before it counts to the keepalive the kernel may have other things to wait for.
    eventually("the options", || {
        let Some(lines) = ss(&["-tnHemoi", "--tos", &from]) else {
            return true;
        };
        found = lines.concat();
        let all = ["timer:(keepalive,1min", &received, &sent, "tos:0xb8"];
        all.iter().all(|option| found.contains(option))
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_of_a_unix_socket_has_the_buffers_of_its_listener() {
    let folder = Folder::new();
    let options = ["--recv-buffer=64KiB", "--send-buffer=32KiB"];
    let listen = folder.unix("socket");
    let program = Program::start(&[&["echo", "-l", &listen], &options[..]].concat());
    let client = program.connect();
    client.send("hello");
    client.receives("hello");
    let path = folder.path("socket").display().to_string();
    let Some(lines) = ss(&["-xnHem", "src", &path]) else {
        return;
    };
    assert_eq!(lines.len(), 1, "{lines:?}");
    let received = 2 * limit("rmem_max").min(64 * 1024);
    let sent = 2 * limit("wmem_max").min(32 * 1024);
    for buffer in [format!(",rb{received},"), format!(",tb{sent},")] {
        assert!(lines[0].contains(&buffer), "{lines:?}");
    }
}

#[test]
fn without_reuse_addr_a_restart_waits_for_old_connections() {
    let args = ["echo", "-l", "127.0.0.84:0"];
    let program = Program::start(&args);
    let address = program.address().to_string();
    let client = program.connect();
    client.send("hello");
    client.receives("hello");
    program.signal(Signal::TERM);
    client.receives_end(); // the first to close, so that its side is in TIME_WAIT
    drop(client);
    assert_eq!(program.wait().code, Some(0));
    let args = ["echo", "-l", &address];
    let line = complaint(&[&args[..], &["--no-reuse-addr"]].concat(), 1);
    let expected = format!("resound: cannot listen on {address}: address already in use");
    assert_eq!(line, expected);
    let again = Program::start(&args);
    let client = again.connect();
    client.send("hello");
    client.receives("hello");
}

#[test]
fn two_programs_may_share_a_port_if_both_want_to() {
    for kind in ["", "udp://"] {
        let args = ["echo", "--reuse-port", "-l"];
        let start = |listen: &str| Program::start(&[&args[..], &[listen]].concat());
        let first = start(&format!("{kind}127.0.0.1:0"));
        let address = first.address().to_string();
        let second = start(&address);
        assert_eq!(second.address().to_string(), address);
        let line = complaint(&["echo", "-l", &address], 1);
        assert!(line.ends_with(": address already in use"), "{line}");
        let alone = Program::start(&["echo", "-l", &format!("{kind}127.0.0.1:0")]);
        let address = alone.address().to_string();
        let line = complaint(&["echo", "--reuse-port", "-l", &address], 1);
        assert!(line.ends_with(": address already in use"), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn programs_that_share_a_port_all_answer_multicast() {
    for listen in ["udp://0.0.0.0:0", "udp://*:0"] {
        let start = |prefix: &str, listen: &str| {
            let args = ["echo", "--reuse-port", "--prefix", prefix, "-l", listen];
            Program::start(&args)
        };
        let first = start("one: ", listen);
        let port = first.address().socket_addr().unwrap().port();
        let _second = start("two: ", &listen.replace(":0", &format!(":{port}")));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_broadcast(true).unwrap();
        let broadcast = SocketAddr::from(([127, 255, 255, 255], port));
        socket.send_to(b"hello", broadcast).unwrap();
        let mut answers = [0, 1].map(|_| {
            let mut buffer = [0; 100];
            let (n, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, SocketAddr::from(([127, 0, 0, 1], port)));
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        });
        answers.sort();
        assert_eq!(answers, ["one: hello", "two: hello"]);
    }
}

/// True if a socket may be bound to an interface here; prints a line if not.
#[cfg(target_os = "linux")]
fn may_bind_device() -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
    let bound = socket2::SockRef::from(&socket).bind_device(Some(b"lo"));
    if let Err(e) = &bound {
        skipped(format_args!("SO_BINDTODEVICE to lo: {e}"));
    }
    bound.is_ok()
}

#[cfg(target_os = "linux")]
#[test]
fn listener_bound_to_an_interface_serves_its_traffic() {
    if !may_bind_device() {
        return;
    }
    let kinds = [Kinds::TCP, Kinds::UDP];
    assert_in_force(&["--bind-device=lo"], "SO_BINDTODEVICE lo", &kinds);
    let args = ["echo", "--bind-device", "lo", "-l", "udp://0.0.0.0:0"];
    let program = Program::start(&args);
    Sender::to(&program.address()).echoes("hello");
}

#[cfg(target_os = "linux")]
#[test]
fn missing_interface_is_one_line() {
    for address in ["127.0.0.1:0", "udp://127.0.0.1:0"] {
        let args = ["echo", "--bind-device", "no-such-if", "-l", address];
        let line = complaint(&args, 1);
        let start = format!("resound: cannot listen on {address}: SO_BINDTODEVICE: ");
        assert!(line.starts_with(&start), "{line}");
        // Where it is not permitted, that error is reported first.
        let known = ["no such device", "operation not permitted"];
        let known = known.iter().any(|cause| line.ends_with(cause));
        assert!(known, "{line}");
    }
}

#[test]
fn the_file_of_a_unix_socket_has_the_permissions_asked_for() {
    for mode in [0o600, 0o660, 0o777] {
        let folder = Kinds::new();
        let _program = folder.start(&[&format!("--unix-mode={mode:04o}")]);
        for name in ["stream", "datagram"] {
            let found = fs::metadata(folder.0.path(name)).unwrap();
            assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}");
        }
    }
}

/// The addresses of loopback with the ports of these.
fn on_loopback(addresses: &[Address], ip: std::net::IpAddr) -> [Address; 2] {
    let port = |address: &Address| address.socket_addr().expect("it has one").port();
    [
        Address::Tcp((ip, port(&addresses[0])).into()),
        Address::Udp((ip, port(&addresses[1])).into()),
    ]
}

#[track_caller]
fn assert_served([tcp, udp]: &[Address; 2]) {
    let client = Client::connect(tcp);
    client.send("stream");
    client.receives("stream");
    Sender::to(udp).echoes("datagram");
}

#[test]
fn ipv6_only_leaves_ipv4_alone() {
    if !has_ipv6() {
        return;
    }
    let args = ["echo", "-v", "--ipv6-only", "-l[::]:0", "-ludp://[::]:0"];
    let program = Program::start(&args);
    for listed in in_force(&program) {
        let on = listed.iter().any(|option| option == "IPV6_V6ONLY on");
        assert!(on, "{listed:?}");
    }
    let addresses = program.addresses();
    assert_served(&on_loopback(&addresses, Ipv6Addr::LOCALHOST.into()));
    let [tcp, udp] = on_loopback(&addresses, Ipv4Addr::LOCALHOST.into());
    let refused = Client::try_connect(&tcp).map_err(|e| e.kind());
    assert_eq!(refused.unwrap_err(), ErrorKind::ConnectionRefused);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(udp.socket_addr().unwrap()).unwrap();
    socket.send(b"hello").unwrap();
    let refused = socket.recv(&mut [0; 10]).map_err(|e| e.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
}

#[test]
fn the_star_serves_both_families() {
    let program = Program::start(&["echo", "-v", "-l*:0", "-ludp://*:0"]);
    let addresses = program.addresses();
    assert_served(&on_loopback(&addresses, Ipv4Addr::LOCALHOST.into()));
    if has_ipv6() {
        for listed in in_force(&program) {
            let off = listed.iter().any(|option| option == "IPV6_V6ONLY off");
            assert!(off, "{listed:?}");
        }
        assert_served(&on_loopback(&addresses, Ipv6Addr::LOCALHOST.into()));
    }
    let line = complaint(&["echo", "-l*:0", "--ipv6-only"], 2);
    assert!(line.contains("--ipv6-only excludes IPv4"), "{line}");
}

#[cfg(target_os = "linux")]
#[test]
fn silent_client_is_not_accepted_yet_if_accepting_is_deferred() {
    let args = ["echo", "-v", "--defer-accept", "60s", "-l", "127.0.0.1:0"];
    let program = Program::start(&args);
    let silent = program.connect();
    let talker = program.connect();
    talker.send("hello");
    talker.receives("hello");
    program.will_have_logged(&format!("client 1 ({}) connected", talker.name()));
    assert!(!program.has_logged(&silent.name()), "it was accepted");
    silent.send("me too");
    silent.receives("me too");
    program.will_have_logged(&format!("client 2 ({}) connected", silent.name()));
}

#[test]
fn a_linger_of_zero_resets_the_connection_behind_the_end() {
    let args = ["reply", "x", "--close", "--linger", "0s"];
    let program = Program::start(&[&args[..], &["-l", "127.0.0.1:0"]].concat());
    let client = program.connect();
    client.send("?");
    client.receives("x");
    client.receives_end();
    // There is no reader any more.
    eventually("the reset", || client.try_send(b"more").is_err());
    let address = program.address().to_string();
    let ended = program.terminate();
    assert!(ended.summary().ends_with("1 done"), "{ended:?}");
    // A reset connection leaves nothing in TIME_WAIT.
    let args = ["echo", "--no-reuse-addr", "-l", &address];
    assert_eq!(Program::start(&args).terminate().code, Some(0));
}

#[test]
fn an_option_of_no_listener_is_bad_usage_and_named() {
    let folder = Folder::new();
    let (stream, datagram) = (folder.unix("s"), folder.unixgram("d"));
    let tcp = "is for TCP listeners, and there is none";
    let ip = "is for TCP and UDP listeners, and there is none";
    let ipv6 = "is for listeners on IPv6, and there is none";
    let udp = "udp://127.0.0.1:0";
    for (option, cause, listeners) in [
        ("--no-reuse-addr", tcp, &[udp, &stream, &datagram][..]),
        ("--no-nodelay", tcp, &[udp, &stream, &datagram]),
        ("--keepalive=1s", tcp, &[udp, &stream, &datagram]),
        ("--defer-accept=1s", tcp, &[udp, &stream, &datagram]),
        ("--fast-open=1", tcp, &[udp, &stream, &datagram]),
        ("--reuse-port", ip, &[&stream, &datagram]),
        ("--tos=1", ip, &[&stream, &datagram]),
        ("--dscp=ef", ip, &[&stream, &datagram]),
        ("--bind-device=lo", ip, &[&stream, &datagram]),
        ("--ipv6-only", ipv6, &[udp, "0.0.0.0:0", &stream, &datagram]),
        (
            "--udp-rate=9",
            "is for UDP listeners, and there is none",
            &["0", &stream],
        ),
        (
            "--unix-mode=0600",
            "is for Unix sockets with a path, and there is none",
            &[udp, "127.0.0.1:0"],
        ),
    ] {
        let name = option.split('=').next().unwrap();
        for listener in listeners {
            let line = complaint(&["echo", option, "-l", listener], 2);
            assert_eq!(line, format!("resound: {name} {cause}"));
        }
    }
}

#[test]
fn a_bad_value_of_an_option_is_one_line_that_names_it() {
    for (option, value, cause) in [
        ("--keepalive", "0s", "whole seconds"),
        ("--keepalive", "1s,1s,1,1", "a count from 1 to 127"),
        ("--linger", "soon", "expected a duration"),
        ("--tos", "256", "0 to 255"),
        ("--dscp", "af44", "0 to 63"),
        ("--defer-accept", "100ms", "whole seconds"),
        ("--fast-open", "0", "not in 1..=65535"),
        ("--bind-device", "a-name-too-long-for-it", "an interface"),
        ("--unix-mode", "rw", "in octal"),
        ("--unix-mode", "07777", "in octal"),
        ("--recv-buffer", "0", "more than 0"),
        ("--send-buffer", "4GiB", "2GiB or larger"),
        ("--backlog", "0", "0 is not in"),
        ("--udp-rate", "0", "from 1 on"),
    ] {
        let line = complaint(&["echo", &format!("{option}={value}")], 2);
        assert!(line.starts_with("resound: "), "{line}");
        assert!(line.contains(option) && line.contains(cause), "{line}");
    }
}

/// Readers stay when their input ends; vanished ones are found by keepalive.
#[test]
fn subscribers_are_probed_unless_told_otherwise() {
    let listen = ["-l127.0.0.1:0", "-l127.0.0.1:0?role=subscribe"];
    for (option, expected) in [
        (&[][..], "TCP_KEEPIDLE 60s"),
        (&["--keepalive=77s"], "TCP_KEEPIDLE 77s"),
    ] {
        let program = Program::start(&[&["broadcast", "-v"], option, &listen[..]].concat());
        let [all, subscribers] = &in_force(&program)[..] else {
            panic!("there are two listeners");
        };
        let has = |options: &[String], option: &str| options.iter().any(|o| o == option);
        assert!(has(subscribers, expected), "{subscribers:?}");
        assert_eq!(has(all, "SO_KEEPALIVE on"), !option.is_empty(), "{all:?}");
    }
}
