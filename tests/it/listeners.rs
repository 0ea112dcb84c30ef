//! Listeners: addresses that can be bound, errors of those that cannot, and files left behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use crate::common::Folder;
use crate::common::client::Client;
use crate::common::running::{Running, config, listening_on, room};
use crate::common::with;
use resound::{Address, Echo, Room, Server};

/// The error of binding these addresses.
#[track_caller]
fn refusal(addresses: &[&str]) -> String {
    match Server::bind(&listening_on(addresses), Echo::new()) {
        Ok(server) => panic!("bound {server:?}"),
        Err(e) => e.to_string(),
    }
}

#[track_caller]
fn assert_served(address: &Address) {
    let client = Client::connect(address);
    client.send("hello");
    client.receives("hello");
}

/// A port that nothing else is bound to: on an address that only this test uses.
fn free_address(ip: &str) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).expect("loopback is large");
    listener.local_addr().expect("it is bound")
}

#[test]
fn a_restart_on_the_same_port_works_at_once() {
    let server = Running::echo();
    let address = server.address().clone();
    let clients = [server.connect(), server.connect()];
    clients[0].send("hello");
    clients[0].receives("hello");
    server.stop(); // first to close, so that its side is in TIME_WAIT
    let again = Running::start(&listening_on(&[&address.to_string()]), Echo::new());
    assert_eq!(again.address(), &address);
    assert_served(&address);
}

#[test]
fn a_port_in_use_is_named() {
    let server = Running::echo();
    let taken = server.address().to_string();
    let expected = format!("cannot listen on {taken}: address already in use");
    assert_eq!(refusal(&[&taken]), expected);
    assert_served(server.address());
}

#[test]
fn if_one_address_fails_none_is_served() {
    let server = Running::echo();
    let taken = server.address().to_string();
    let folder = Folder::new();
    let path = folder.path("socket");
    let free = free_address("127.0.0.77");
    let error = refusal(&[&free.to_string(), &folder.unix("socket"), &taken]);
    assert!(error.starts_with(&format!("cannot listen on {taken}: ")));
    assert!(!path.exists(), "the file of a socket is left");
    assert!(Client::try_connect(&Address::Tcp(free)).is_err());
}

#[test]
fn all_addresses_are_served_at_once() {
    let folder = Folder::new();
    let path = folder.unix("socket");
    let config = listening_on(&["127.0.0.1:0", &path, "127.0.0.2:0"]);
    let server = Running::start(&config, Echo::new());
    assert_eq!(server.addresses.len(), 3);
    assert_eq!(server.addresses[1].to_string(), path);
    let clients: Vec<Client> = server.addresses.iter().map(Client::connect).collect();
    for (i, client) in clients.iter().enumerate() {
        client.send(format!("client {i}"));
    }
    for (i, client) in clients.iter().enumerate() {
        client.receives(format!("client {i}"));
    }
}

#[test]
fn clients_of_a_server_that_is_bound_but_does_not_run_yet_wait() {
    let server = Server::bind(&config(), Echo::new()).unwrap();
    let address = server.local_addrs().swap_remove(0);
    let client = Client::connect(&address);
    client.send("early");
    let handle = server.handle();
    let thread = std::thread::spawn(|| server.run());
    client.receives("early");
    handle.stop().unwrap();
    client.receives_end();
    assert_eq!(thread.join().unwrap().unwrap().clients, 1);
}

#[test]
fn client_beyond_the_limit_waits_until_another_leaves() {
    let config = with(config(), |config| config.max_clients = Some(2));
    let server = Running::start(&config, Echo::new());
    let (first, second) = (server.connect(), server.connect());
    let surplus = server.connect();
    surplus.send("me too");
    for (i, client) in [&first, &second].into_iter().enumerate() {
        client.send(format!("client {i}"));
        client.receives(format!("client {i}"));
    }
    surplus.receives_nothing();
    first.finish();
    first.receives_end();
    surplus.receives("me too");
    second.reset();
    assert_served(server.address());
    drop((first, surplus));
    assert_eq!(server.stop().clients, 4);
}

#[test]
fn the_file_of_a_unix_socket_is_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let server = Running::start(&listening_on(&[&folder.unix("socket")]), Echo::new());
    assert_served(server.address());
    assert!(path.exists());
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let folder = Folder::new();
    let path = folder.path("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Running::start(&listening_on(&[&folder.unix("socket")]), Echo::new());
    assert_served(server.address());
}

#[test]
fn a_unix_socket_that_is_served_is_refused() {
    let folder = Folder::new();
    let path = folder.unix("socket");
    let server = Running::start(&listening_on(&[&path]), Echo::new());
    let expected = format!("cannot listen on {path}: address already in use");
    assert_eq!(refusal(&[&path]), expected);
    assert_served(server.address());
}

/// The search for a running server was its client: it ended a server for one client, and was
/// announced in a room.
#[test]
fn a_server_does_not_notice_another_start_on_its_socket() {
    let folder = Folder::new();
    let (echo, announced) = (folder.unix("echo"), folder.unix("room"));
    let once = with(listening_on(&[&echo]), |config| config.once = true);
    let once = Running::start(&once, Echo::new());
    let service = room(&with(Room::default(), |room| room.announce = true));
    let server = Running::start(&listening_on(&[&announced]), service);
    let present = server.connect();
    present.send("here\n");
    for path in [&echo, &announced] {
        refusal(&[path]);
    }
    assert_served(once.address());
    assert_eq!(once.end().clients, 1);
    assert_eq!(server.stop().clients, 1);
}

/// Nothing is bound, removed or changed behind a link.
#[test]
fn links_are_refused_and_kept() {
    let folder = Folder::new();
    let live = folder.unix("live");
    let server = Running::start(&listening_on(&[&live]), Echo::new());
    for (link, target) in [("to-live", "live"), ("to-nothing", "nothing")] {
        let path = folder.path(link);
        std::os::unix::fs::symlink(folder.path(target), &path).unwrap();
        let error = refusal(&[&folder.unix(link)]);
        let cause = "a file that is not a socket is in the way";
        assert!(error.ends_with(cause), "{error}");
        assert!(path.is_symlink());
    }
    assert!(!folder.path("nothing").exists());
    assert_served(server.address());
}

#[test]
fn a_file_that_is_not_a_socket_is_refused_and_kept() {
    let folder = Folder::new();
    let path = folder.path("file");
    fs::write(&path, "precious").unwrap();
    let name = folder.unix("file");
    let error = refusal(&[&name]);
    assert!(error.starts_with(&format!("cannot listen on {name}: ")));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let path = "unix:/nowhere/socket";
    let expected = format!("cannot listen on {path}: no such file or directory");
    assert_eq!(refusal(&[path]), expected);
}
