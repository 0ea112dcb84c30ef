//! The binary as its users meet it: exit codes, texts and their streams, signals, addresses.

use std::fs;
use std::net::{Ipv6Addr, TcpListener, ToSocketAddrs};

use crate::common::client::{Client, join};
use crate::common::program::{Ended, Program, complaint, run};
use crate::common::{Folder, eventually, skipped};
use resound::Address;
use rustix::process::Signal;

#[track_caller]
fn assert_echoes(address: &Address) {
    let client = Client::connect(address);
    client.send("hello\n");
    client.finish();
    client.receives("hello\n");
    client.receives_end();
}

#[test]
fn help_and_version_go_to_stdout() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["help"],
        &["echo", "--help"],
        &["broadcast", "-h"],
    ] {
        let ended = run(args);
        assert_eq!(ended.code, Some(0), "{args:?}");
        assert!(ended.stdout.contains("resound"), "{args:?}: {ended:?}");
        assert!(ended.log.is_empty(), "{args:?}: {ended:?}");
    }
    let version = run(&["--version"]).stdout;
    assert_eq!(
        version,
        concat!("resound ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn without_a_subcommand_help_goes_to_stderr() {
    let ended = run(&[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    let logged = |text| ended.log.iter().any(|line| line.contains(text));
    assert!(logged("Usage:") && logged("broadcast"), "{ended:?}");
}

#[test]
fn unknown_arguments_are_refused() {
    for args in [
        &["echo", "--no-such-option"][..],
        &["no-such-service"],
        &["echo", "surplus"],
        &["echo", "--patience", "1s"],
        &["echo", "-v", "-q"],
        &["echo", "-l"],
    ] {
        let ended = run(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
        assert!(!ended.log.is_empty(), "{args:?}");
    }
}

#[test]
fn a_bad_value_is_one_line_and_code_2() {
    for (option, value, cause) in [
        ("--listen", "127.0.0.1", "expected HOST:PORT"),
        ("--listen", "127.0.0.1:", "'' is not a port"),
        ("--listen", "127.0.0.1:http", "'http' is not a port"),
        ("--listen", "127.0.0.1:65536", "port 65536 is out of range"),
        ("--listen", "99999", "port 99999 is out of range"),
        ("--listen", "::1:7000", "goes in brackets"),
        ("--listen", "[nonsense]:7000", "not an IPv6 address"),
        ("--listen", "unix:", "expected a path"),
        ("--backlog", "0", "0 is not in"),
        ("--max-clients", "none", "expected a number"),
        ("--high-water", "lots", "expected a size"),
        ("--grace", "soon", "expected a duration"),
    ] {
        let line = complaint(&["echo", &format!("{option}={value}")], 2);
        assert!(line.starts_with("resound: "), "{line}");
        assert!(line.contains(cause) && line.contains(option), "{line}");
    }
}

#[test]
fn an_address_that_cannot_be_bound_is_one_line_and_code_1() {
    let folder = Folder::new();

    fs::write(folder.path("file"), "precious").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, cause) in [
        (taken.as_str(), "address already in use"),
        ("192.0.2.1:0", "cannot assign requested address"),
        ("no-such-host.invalid:0", ""),
        (&folder.unix("missing/socket"), "no such file or directory"),
        (
            &folder.unix("file"),
            "a file that is not a socket is in the way",
        ),
        (&folder.unix("file/socket"), "not a directory"),
        (&folder.unix(&"x".repeat(200)), ""),
        (
            &folder.unix(""),
            "a file that is not a socket is in the way",
        ),
    ] {
        let line = complaint(&["broadcast", "-l", "127.0.0.1:0", "-l", address], 1);
        let expected = format!("resound: cannot listen on {address}: {cause}");
        assert!(line.starts_with(&expected), "{line}\n{expected}");
        assert!(line.len() > format!("resound: cannot listen on {address}: ").len());
        assert!(!line.contains("os error"), "{line}");
    }
    let content = fs::read_to_string(folder.path("file"));
    assert_eq!(content.unwrap(), "precious");
}

#[test]
fn either_signal_stops_it_with_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = Folder::new();
        let path = folder.path("socket");
        let args = ["echo", "-l", "127.0.0.1:0", "-l", &folder.unix("socket")];
        let program = Program::start(&args);
        let addresses = program.addresses();
        let clients: Vec<Client> = addresses.iter().map(Client::connect).collect();
        for client in &clients {
            client.send("hello");
            client.receives("hello");
        }
        program.signal(signal);
        clients.iter().for_each(Client::receives_end);
        assert_eq!(program.wait().code, Some(0));
        assert!(!path.exists(), "the socket's file is left");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let args = [
        "echo",
        "-l",
        &folder.unix("socket"),
        "--grace=1h",
        "--high-water=8MiB",
    ];
    let program = Program::start(&args);
    let client = program.connect();
    client.send(vec![7; 4 << 20]); // never read
    program.signal(Signal::TERM);
    eventually("the stop", || program.has_logged("stopping"));
    assert!(!path.exists(), "the socket's file is left");
    program.signal(Signal::TERM);
    let ended = program.wait();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.log.last().unwrap().contains("1 shutdown"),
        "{ended:?}"
    );
    drop(client);
}

/// The log, without the times, of one client that connects, sends `hello` and leaves.
fn log_of_a_visit(variables: &[(&str, &str)], options: &[&str]) -> (Vec<String>, String) {
    let folder = Folder::new();
    let path = folder.path("socket");
    let listen = folder.unix("socket");
    let args = [&["echo", "-l", &listen][..], options].concat();
    let program = Program::start_with(variables, &args);
    eventually("the socket", || path.exists());
    let address = folder.address("socket");
    eventually("it listening", || Client::try_connect(&address).is_ok());
    assert_echoes(&address);
    let Ended { code, stdout, log } = program.terminate();
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    (log, listen)
}

fn count(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn addresses_and_readiness_are_logged_by_default() {
    let (log, listen) = log_of_a_visit(&[], &[]);
    assert!(
        log[0].ends_with(&format!("listening on {listen}")),
        "{log:?}"
    );
    assert!(log[1].contains("ready"), "{log:?}");
    assert_eq!(count(&log, "client 1 "), 0, "{log:?}");
    assert!(log.iter().all(|l| l.contains(" INFO ]")), "{log:?}");
}

#[test]
fn verbose_logs_each_client_that_connects_and_that_leaves() {
    let program = Program::start(&["broadcast", "-v", "-l", "127.0.0.1:0"]);
    let mut room = join(&program.address(), 3);
    let names: Vec<String> = room.iter().map(Client::name).collect();
    room[0].send("hi\n");
    room[0].finish();
    room[0].receives_end();
    eventually("the first leaving", || program.has_logged("peer-closed"));
    room.swap_remove(1).reset();
    eventually("the second leaving", || program.has_logged("reset"));
    let ended = program.terminate();
    for (i, name) in names.iter().enumerate() {
        let who = format!("client {} ({name})", i + 1);
        assert_eq!(count(&ended.log, &format!("{who} connected")), 1);
        assert_eq!(count(&ended.log, &format!("{who} left after ")), 1);
    }
    let tails = [
        "s: 3 bytes in, 9 bytes out, peer-closed",
        "s: 0 bytes in, 12 bytes out, reset",
        "s: 9 bytes in, 3 bytes out, shutdown",
    ];
    for tail in tails {
        let lines = ended.log.iter().filter(|line| line.ends_with(tail));
        assert_eq!(lines.count(), 1, "{tail}: {ended:#?}");
    }
}

/// Health probes connect every few seconds, and leave without a byte.
#[test]
fn probes_are_counted_and_logged_only_when_twice_verbose() {
    for (verbosity, logged) in [("-v", false), ("-vv", true)] {
        let program = Program::start(&["echo", verbosity, "-l", "127.0.0.1:0"]);
        for probe in (0..3).map(|_| program.connect()) {
            probe.finish();
            probe.receives_end();
        }
        let ended = program.terminate();
        let each = if logged { 3 } else { 0 };
        assert_eq!(count(&ended.log, " connected"), each, "{ended:#?}");
        assert_eq!(count(&ended.log, " left after "), each, "{ended:#?}");
        let counted = count(
            &ended.log,
            "1 client came and went without a byte: -vv logs each",
        );
        assert_eq!(counted, usize::from(!logged), "{ended:#?}");
        assert!(ended.summary().contains("3 without a byte"), "{ended:#?}");
    }
}

#[test]
fn quiet_server_logs_nothing() {
    assert_eq!(log_of_a_visit(&[], &["-q"]).0, Vec::<String>::new());
}

#[test]
fn rust_log_has_the_last_word() {
    let (log, _) = log_of_a_visit(&[("RUST_LOG", "warn")], &["-v"]);
    assert_eq!(log, Vec::<String>::new());
    let (log, _) = log_of_a_visit(&[("RUST_LOG", "resound=debug")], &["-q"]);
    assert!(count(&log, " connected") > 0, "{log:?}");
}

#[test]
fn empty_rust_log_silences_nothing() {
    for value in ["", " ", "a=b=c"] {
        let (log, _) = log_of_a_visit(&[("RUST_LOG", value)], &["-v"]);
        assert!(count(&log, " connected") > 0, "{value:?}: {log:?}");
    }
    let (log, _) = log_of_a_visit(&[("RUST_LOG", "error")], &["-v"]);
    assert_eq!(log, Vec::<String>::new());
}

#[test]
fn twice_verbose_shows_each_pass_of_the_loop() {
    let (log, _) = log_of_a_visit(&[], &["-v"]);
    assert_eq!(count(&log, "TRACE"), 0, "{log:?}");
    let (log, _) = log_of_a_visit(&[], &["-vv"]);
    assert!(count(&log, "TRACE") > 0, "{log:?}");
}

#[test]
fn a_pipe_gets_no_colours() {
    for variables in [&[][..], &[("NO_COLOR", "1")], &[("TERM", "xterm-256color")]] {
        let (log, _) = log_of_a_visit(variables, &["-vv"]);
        assert!(!log.is_empty());
        assert_eq!(count(&log, "\u{1b}"), 0, "{log:?}");
    }
}

#[test]
fn several_addresses_of_all_kinds_are_served_at_once() {
    let folder = Folder::new();
    let path = folder.unix("socket");
    let args = [
        "broadcast",
        "-v",
        "-l127.0.0.1:0",
        "--listen",
        &path,
        "-l=0",
    ];
    let program = Program::start(&args);
    let addresses = program.addresses();
    assert_eq!(addresses.len(), 3);
    assert_eq!(addresses[1].to_string(), path);
    // One room, whichever listener a client uses.
    let mut room = Vec::new();
    for (i, address) in addresses.iter().enumerate() {
        room.push(Client::connect(address));
        let connected = format!("client {} (", i + 1);
        eventually("its being served", || program.has_logged(&connected));
    }
    for (i, client) in room.iter().enumerate() {
        client.send(format!("I am {i}\n"));
        for (_, other) in room.iter().enumerate().filter(|&(j, _)| j != i) {
            other.receives(format!("I am {i}\n"));
        }
    }
}

#[test]
fn a_host_name_stands_for_all_its_addresses() {
    let mut expected: Vec<_> = ("localhost", 0)
        .to_socket_addrs()
        .unwrap()
        .map(|a| a.ip())
        .collect();
    expected.dedup();
    let program = Program::start(&["echo", "-l", "localhost:0"]);
    let addresses = program.addresses();
    let bound: Vec<_> = addresses
        .iter()
        .map(|a| a.socket_addr().unwrap().ip())
        .collect();
    assert_eq!(bound, expected);
    addresses.iter().for_each(assert_echoes);
}

#[test]
fn ipv6_is_served() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skipped("this system has no ::1");
        return;
    }
    let program = Program::start(&["echo", "-v", "-l", "[::1]:0"]);
    let address = program.address();
    assert!(address.to_string().starts_with("[::1]:"), "{address}");
    assert_echoes(&address);
    eventually("the visit in the log", || {
        program.has_logged("client 1 ([::1]:")
    });
}

#[test]
fn a_killed_one_leaves_a_socket_that_the_next_replaces() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let args = ["echo", "-l", &folder.unix("socket")];
    let killed = Program::start(&args);
    let line = complaint(&args, 1);
    assert!(line.ends_with("address already in use"), "{line}");
    killed.signal(Signal::KILL);
    assert_eq!(killed.wait().code, None);
    assert!(path.exists());
    let program = Program::start(&args);
    assert_echoes(&program.address());
}

#[test]
fn it_starts_again_on_the_same_port_at_once() {
    let program = Program::start(&["echo", "-l", "127.0.0.1:0"]);
    let address = program.address();
    let client = program.connect();
    client.send("hello");
    client.receives("hello");
    assert_eq!(program.terminate().code, Some(0));
    let again = Program::start(&["echo", "-l", &address.to_string()]);
    assert_eq!(again.address(), address);
    assert_echoes(&address);
}

/// Starts it by a script that ends with `exec`, on a socket of a folder.
fn start_on_a_socket(script: &str, folder: &Folder) -> (Program, Address) {
    let args = ["echo", "-v", "-l", &folder.unix("socket")];
    let program = Program::start_in_shell(script, &args);
    let address = folder.address("socket");
    eventually("it listening", || Client::try_connect(&address).is_ok());
    (program, address)
}

#[test]
fn closed_standard_streams_do_not_matter() {
    for script in [
        r#"exec "$0" "$@" <&- >&- 2>&-"#,
        r#"exec "$0" "$@" <&-"#,
        r#"exec "$0" "$@" >&-"#,
        r#"exec "$0" "$@" 2>&-"#,
    ] {
        let folder = Folder::new();
        let (program, address) = start_on_a_socket(script, &folder);
        for _ in 0..20 {
            assert_echoes(&address);
        }
        #[cfg(target_os = "linux")]
        program.assert_idle();
        let ended = program.terminate();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    }
}

#[test]
fn standard_error_without_a_reader_does_not_matter() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let args = ["echo", "-vv", "-l", &folder.unix("socket")];
    let program = Program::start_with_closed_stderr(&args);
    let address = folder.address("socket");
    for _ in 0..20 {
        assert_echoes(&address);
    }
    assert_eq!(program.terminate().code, Some(0));
    assert!(!path.exists());
}

#[test]
fn clients_that_wait_at_a_full_house_are_served_in_the_end() {
    let args = ["echo", "-l", "127.0.0.1:0", "--max-clients", "3"];
    let program = Program::start(&args);
    let clients: Vec<Client> = (0..30).map(|_| program.connect()).collect();
    for (i, client) in clients.into_iter().enumerate() {
        client.send(format!("client {i}"));
        client.finish();
        assert_eq!(client.rest(), format!("client {i}").as_bytes());
    }
    program.will_have_logged("the limit of 3 clients is reached");
}
