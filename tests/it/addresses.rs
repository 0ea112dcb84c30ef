//! Addresses in all their forms: each is served, and what is printed of it can be given again.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, ToSocketAddrs};

use crate::common::client::Client;
use crate::common::datagram::Sender;
use crate::common::program::{Program, complaint};
#[cfg(target_os = "linux")]
use crate::common::stdio::{input_pipe, output_pipe};
use crate::common::{Folder, has_ipv6, skipped};
use resound::Address;

/// A name for an abstract socket that no other process and no other test has.
#[cfg(target_os = "linux")]
fn abstract_name(test: &str) -> String {
    format!("@resound-{}-{test}", std::process::id())
}

/// A name for a Unix client's own address.
fn client_path(folder: &Folder, number: usize) -> std::path::PathBuf {
    folder.path(&format!("client {number}"))
}

/// The addresses at which a client reaches it: `[::]` also stands for IPv4 where that is free.
fn reachable(address: &Address) -> Address {
    let unspecified = address.is_unspecified() && !has_ipv6();
    let port = address.socket_addr().map(|address| address.port());
    let ipv4 = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match (address, port.filter(|_| unspecified)) {
        (Address::Udp(_), Some(port)) => Address::Udp(ipv4(port)),
        (_, Some(port)) => Address::Tcp(ipv4(port)),
        _ => address.reachable(),
    }
}

/// An echo is received from there; the folder is for a client's own name.
#[track_caller]
fn assert_served(address: &Address, folder: &Folder, number: usize) {
    let sender = match reachable(address) {
        Address::Udp(address @ SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
            let anywhere = (Ipv6Addr::UNSPECIFIED, 0).into();
            Sender::from(anywhere, &Address::Udp(address))
        }
        address @ Address::Udp(_) => Sender::to(&address),
        address @ Address::UnixDatagram(_) => {
            Sender::on_unix(Some(&client_path(folder, number)), &address)
        }
        address => {
            let client = Client::connect(&address);
            client.send("stream");
            client.finish();
            client.receives("stream");
            return client.receives_end();
        }
    };
    sender.echoes("datagram");
}

/// Regression: an address that is not UTF-8 was refused.
#[test]
fn path_of_a_unix_socket_may_be_any_bytes() {
    // The first argument is the beginning of the last one.
    let script = r#"address=$1$(printf 'caf\351'); shift; exec "$0" "$@" "$address""#;
    for kind in ["unix", "unixgram"] {
        let folder = Folder::new();
        let before = format!("{kind}:{}", folder.path("").display());
        let start =
            |args: &[&str]| Program::start_in_shell(script, &[&[before.as_str()], args].concat());
        let server = start(&["echo", "-l"]).ready();
        let client = start(&["connect", "--send=hello"]).wait();
        assert_eq!((client.code, client.stdout.as_str()), (Some(0), "hello"));
        let load = start(&["load", "--duration=50ms", "--warmup=0s", "--clients=2"]).wait();
        assert_eq!(load.code, Some(0), "{load:?}");
        server.terminate();
        let left = fs::read_dir(folder.path("")).unwrap().count();
        assert_eq!(left, 0, "the file of the socket stays");
    }
}

/// Starts an echo server with these options, on these addresses, and asserts that each is served.
#[track_caller]
fn start(options: &[&str], listens: &[impl AsRef<str>]) -> Program {
    let folder = Folder::new();
    let mut args = [&["echo"], options].concat();
    for listen in listens {
        args.extend(["-l", listen.as_ref()]);
    }
    let program = Program::start(&args);
    for (number, address) in program.addresses().iter().enumerate() {
        assert_served(address, &folder, number);
    }
    program
}

fn names(program: &Program) -> Vec<String> {
    program.addresses().iter().map(Address::to_string).collect()
}

/// The text is the address with a port that the system chose.
#[track_caller]
fn assert_chosen(text: &str, start: &str) {
    let port = text.strip_prefix(start).and_then(|port| port.parse().ok());
    assert!(port.is_some_and(|port: u16| port > 0), "{text}");
}

#[test]
fn every_form_of_ipv4_is_served() {
    let forms = [
        ("127.0.0.1:0", "127.0.0.1:"),
        ("0", "127.0.0.1:"),
        ("127.0.0.86:0", "127.0.0.86:"),
        ("tcp://127.0.0.1:0", "127.0.0.1:"),
        ("0.0.0.0:0", "0.0.0.0:"),
        ("udp://127.0.0.1:0", "udp://127.0.0.1:"),
        ("udp://0", "udp://127.0.0.1:"),
        ("udp://0.0.0.0:0", "udp://0.0.0.0:"),
    ];
    let program = start(&[], &forms.map(|(form, _)| form));
    for (text, (_, start)) in names(&program).iter().zip(forms) {
        assert_chosen(text, start);
    }
}

#[test]
fn every_form_of_ipv6_is_served() {
    if !has_ipv6() {
        return;
    }
    let forms = [
        ("[::1]:0", "[::1]:"),
        ("tcp://[::1]:0", "[::1]:"),
        ("[0:0:0:0:0:0:0:1]:0", "[::1]:"),
        ("[::]:0", "[::]:"),
        ("udp://[::1]:0", "udp://[::1]:"),
        ("udp://[::]:0", "udp://[::]:"),
    ];
    let program = start(&[], &forms.map(|(form, _)| form));
    for (text, (_, start)) in names(&program).iter().zip(forms) {
        assert_chosen(text, start);
    }
}

#[test]
fn a_name_stands_for_all_its_addresses_over_either_protocol() {
    let found = ("localhost", 0).to_socket_addrs().unwrap();
    let mut ips: Vec<_> = found.map(|address| address.ip()).collect();
    ips.dedup();
    let program = start(&[], &["localhost:0", "udp://localhost:0"]);
    let bound = program.addresses();
    let bound = bound
        .iter()
        .map(|a| (a.is_datagram(), a.socket_addr().unwrap().ip()));
    let tcp = ips.iter().map(|ip| (false, *ip));
    let udp = ips.iter().map(|ip| (true, *ip));
    assert_eq!(
        bound.collect::<Vec<_>>(),
        tcp.chain(udp).collect::<Vec<_>>()
    );
}

#[test]
fn the_star_is_every_address_of_both_families() {
    let folder = Folder::new();
    let program = Program::start(&["echo", "-l", "*:0", "-l", "udp://*:0"]);
    let ipv6 = has_ipv6();
    for address in program.addresses() {
        let port = address.socket_addr().unwrap().port();
        assert!(address.is_unspecified(), "{address}");
        let mut everywhere = vec!["127.0.0.1", "127.0.0.87"];
        everywhere.extend(ipv6.then_some("::1"));
        for ip in everywhere {
            let at = SocketAddr::new(ip.parse().unwrap(), port);
            let at = match address {
                Address::Udp(_) => Address::Udp(at),
                _ => Address::Tcp(at),
            };
            assert_served(&at, &folder, 0);
        }
    }
}

/// An address of a link that this machine has, and the name of its interface.
fn link_local() -> Option<(SocketAddrV6, String)> {
    let all = fs::read_to_string("/proc/net/if_inet6").ok()?;
    all.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[digits, index, .., name] = fields.as_slice() else {
            return None;
        };
        let ip = Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?);
        let index = u32::from_str_radix(index, 16).ok()?;
        let address = SocketAddrV6::new(ip, 0, 0, index);
        let usable = ip.is_unicast_link_local() && TcpListener::bind(address).is_ok();
        usable.then(|| (address, name.to_owned()))
    })
}

#[test]
fn the_address_of_a_link_takes_the_name_of_its_interface() {
    let Some((address, name)) = link_local() else {
        skipped("this machine has no address of a link (fe80::/10)");
        return;
    };
    let ip = address.ip();
    let (tcp, udp) = (format!("[{ip}%{name}]:0"), format!("udp://[{ip}%{name}]:0"));
    let program = start(&[], &[&tcp, &udp]);
    // They are printed with its number.
    let printed = names(&program);
    assert!(printed[0].starts_with(&format!("[{ip}%")), "{printed:?}");
    drop(program);
    assert_eq!(names(&start(&[], &printed)), printed);
}

#[test]
fn server_on_all_addresses_answers_over_the_address_of_a_link() {
    let Some((mut address, _)) = link_local() else {
        skipped("this machine has no address of a link (fe80::/10)");
        return;
    };
    let folder = Folder::new();
    for listen in ["udp://[::]:0", "udp://*:0"] {
        let program = Program::start(&["echo", "-l", listen]);
        let port = program.address().socket_addr().unwrap().port();
        address.set_port(port);
        // Before and behind others, for which the server has to set the source address.
        let others = ["::1", "127.0.0.2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        for address in [others[0], address.into(), others[1], address.into()] {
            if address.is_ipv6() || listen.contains('*') {
                assert_served(&Address::Udp(address), &folder, 0);
            }
        }
    }
}

#[test]
fn an_interface_on_loopback_is_served_or_one_line() {
    if !has_ipv6() {
        return;
    }
    // The resolver decides if an address that is not of a link may have one.
    for scope in ["lo", "1"] {
        let listen = format!("[::1%{scope}]:0");
        if (format!("::1%{scope}"), 0).to_socket_addrs().is_ok() {
            let program = start(&[], &[&listen]);
            assert_chosen(&names(&program)[0], "[::1]:");
        } else {
            let line = complaint(&["echo", "-l", &listen], 1);
            let start = format!("resound: cannot listen on {listen}: ");
            assert!(line.starts_with(&start), "{line}");
        }
    }
}

#[test]
fn missing_interface_is_one_line() {
    for listen in ["[fe80::1%no-such-if]:0", "udp://[fe80::1%no-such-if]:0"] {
        let line = complaint(&["echo", "-l", listen], 1);
        let start = format!("resound: cannot listen on {listen}: ");
        let why = line.strip_prefix(&start);
        assert!(why.is_some_and(|why| !why.is_empty()), "{line}");
        assert!(!line.contains("os error"), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_is_served_and_leaves_no_file() {
    let name = abstract_name("streams");
    let listen = format!("unix:{name}");
    for _ in 0..3 {
        // It is free again as soon as no process has it.
        let program = start(&[], &["127.0.0.1:0", &listen]);
        assert_eq!(names(&program)[1], listen);
        let line = complaint(&["echo", "-l", &listen], 1);
        let expected = format!("resound: cannot listen on {listen}: address already in use");
        assert_eq!(line, expected);
        assert!(!std::path::Path::new(&name).exists());
        assert_eq!(program.terminate().code, Some(0));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_has_at_most_107_bytes() {
    let name = abstract_name("long");
    for kind in ["unix", "unixgram"] {
        let longest = format!("{kind}:{name:x<108}");
        let program = Program::start(&["echo", "-l", &longest]);
        assert_eq!(program.address().to_string(), longest);
        let line = complaint(&["echo", "-l", &format!("{longest}x")], 1);
        assert!(line.ends_with(": the path is too long"), "{line}");
    }
}

#[test]
fn unix_paths_are_served_both_as_streams_and_as_datagrams() {
    let folder = Folder::new();
    let listens = [folder.unix("a b 好"), folder.unixgram("a?b")];
    let program = start(&[], &listens);
    assert_eq!(names(&program), listens);
    assert!(folder.path("a b 好").exists() && folder.path("a?b").exists());
    // One path can't be both.
    let taken = listens[0].replace("unix:", "unixgram:");
    let line = complaint(&["echo", "-l", &taken], 1);
    let expected = format!("resound: cannot listen on {taken}: address already in use");
    assert_eq!(line, expected);
    assert_eq!(program.terminate().code, Some(0));
    assert!(!folder.path("a b 好").exists() && !folder.path("a?b").exists());
}

#[test]
fn all_kinds_are_served_at_once_and_printed_addresses_can_be_given_again() {
    let folder = Folder::new();
    let mut listens = vec![
        "127.0.0.1:0".to_owned(),
        "udp://127.0.0.1:0".to_owned(),
        "localhost:0".to_owned(),
        "udp://localhost:0".to_owned(),
        "*:0".to_owned(),
        "udp://*:0".to_owned(),
        folder.unix("stream"),
        folder.unixgram("datagram"),
    ];
    #[cfg(target_os = "linux")]
    {
        listens.push(format!("unix:{}", abstract_name("all")));
        listens.push(format!("unixgram:{}", abstract_name("all-datagrams")));
    }
    if has_ipv6() {
        listens.extend(["[::1]:0".to_owned(), "udp://[::1]:0".to_owned()]);
    }
    // Ports are shared, so that they can be bound again before another process gets them.
    let shared = ["--reuse-port"];
    let program = start(&shared, &listens);
    let printed = names(&program);
    assert!(printed.len() >= listens.len());
    let (unix, ip): (Vec<String>, Vec<String>) = printed
        .into_iter()
        .partition(|text| text.starts_with("unix"));
    let again = start(&shared, &ip);
    assert_eq!(names(&again), ip);
    assert_eq!(program.terminate().code, Some(0));
    assert_eq!(names(&start(&[], &unix)), unix);
}

#[test]
fn the_hint_of_the_ready_line_can_be_reached() {
    let folder = Folder::new();
    for (listen, start, hint) in [
        ("0.0.0.0:0".to_owned(), "0.0.0.0:", "nc 127.0.0.1 "),
        (
            "udp://0.0.0.0:0".to_owned(),
            "udp://0.0.0.0:",
            "nc -u 127.0.0.1 ",
        ),
    ] {
        let program = Program::start(&["echo", "-l", &listen]);
        let text = program.address().to_string();
        let port = text.strip_prefix(start).unwrap();
        program.will_have_logged(&format!("try '{hint}{port}'"));
    }
    let program = Program::start(&["echo", "-l", &folder.unix("s")]);
    let path = folder.path("s");
    program.will_have_logged(&format!("try 'nc -U {}'", path.display()));
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_can_be_connected_to_as_the_ready_line_has_it() {
    let listen = format!("unix:{}", abstract_name("hint"));
    let program = Program::start(&["echo", "-l", &listen]);
    program.will_have_logged(&format!("try 'resound connect {listen}'"));
    let (input, stdin) = input_pipe();
    let (mut stdout, output) = output_pipe();
    let client = Program::spawn_on(&["connect", &listen], input, output);
    stdin.send("hello\n");
    stdout.receives("hello\n");
    drop(stdin);
    stdout.receives_end();
    assert_eq!(client.wait().code, Some(0));
}

#[test]
fn a_port_of_loopback_is_not_that_of_another_address() {
    let program = Program::start(&["echo", "-l", "127.0.0.88:0"]);
    let port = program.address().socket_addr().unwrap().port();
    let elsewhere = Address::Tcp((Ipv4Addr::new(127, 0, 0, 89), port).into());
    assert!(Client::try_connect(&elsewhere).is_err());
}

/// IPv4 over a socket of IPv6 is shown as IPv4.
#[test]
fn a_peer_has_its_own_address_on_a_listener_for_both_families() {
    let args = ["reply", "{peer} {local}", "-v", "-l*:0", "-ludp://*:0"];
    let program = Program::start(&args);
    let [tcp, udp] = program.addresses().try_into().expect("there are two");
    let port = |address: &Address| address.socket_addr().expect("it is IP").port();
    let client = Client::connect(&Address::Tcp(([127, 0, 0, 1], port(&tcp)).into()));
    client.send("who am I?");
    client.receives(format!("{} 127.0.0.1:{}", client.name(), port(&tcp)));
    program.will_have_logged(&format!("client 1 ({}) connected", client.name()));
    let sender = Sender::to(&Address::Udp(([127, 0, 0, 1], port(&udp)).into()));
    sender.send("who am I?");
    sender.receives(format!("{} 127.0.0.1:{}", sender.name(), port(&udp)));
}
