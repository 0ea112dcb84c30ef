//! Binding: from a configuration to sockets.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use log::warn;

use super::accepting::ListenerInfo;
use crate::config::Config;
use crate::net::address::{Address, Listen, Role};
use crate::net::datagram::DatagramSocket;
use crate::net::error::BindError;
use crate::net::listener::Listener;
use crate::net::options::{Keepalive, SocketOptions};

/// Keepalive of clients that only subscribe: a vanished one is found within two minutes.
const SUBSCRIBER_KEEPALIVE: Keepalive = Keepalive {
    idle: Duration::from_secs(60),
    interval: Some(Duration::from_secs(10)),
    count: Some(6),
};

/// An address that a server is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// The address; port 0 and host names are resolved.
    pub address: Address,
    /// The role of its clients.
    pub role: Role,
    /// The socket options in force, as the kernel tells them (getsockopt(2)), and the value that
    /// was asked for where it differs: `SO_RCVBUF 131072 (asked for 65536), TCP_NODELAY on`.
    pub options: String,
}

/// The sockets that a configuration asks for, in its order, and what is known of them.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) listeners: Vec<Listener>,
    pub(super) listener_infos: Vec<ListenerInfo>,
    pub(super) datagram_sockets: Vec<DatagramSocket>,
    pub(super) addresses: Vec<BoundAddress>,
}

impl Bound {
    /// Binds every address. One of datagrams is an error unless the service answers `datagrams`.
    ///
    /// # Errors
    /// If one of the addresses can't be resolved or bound, or does not fit the service; if this machine has
    /// none of the addresses of a name.
    pub(super) fn all(config: &Config, datagrams: bool) -> Result<Self, BindError> {
        let mut bound = Self::default();
        for listen in &config.listen {
            let failed = |e| BindError::new(&listen.address, e);
            if listen.address.is_datagram() && !datagrams {
                let text = "this service is not available over datagrams";
                return Err(failed(io::Error::new(io::ErrorKind::Unsupported, text)));
            }
            let addresses = listen.address.resolve().map_err(failed)?;
            bound.bind_name(listen, &addresses, config)?;
        }
        Ok(bound)
    }

    /// Binds the addresses of one name, those that this machine has: a name may have others, such as
    /// those of a family that is off. The log names them.
    fn bind_name(
        &mut self,
        listen: &Listen,
        addresses: &[Address],
        config: &Config,
    ) -> Result<(), BindError> {
        let dual = listen.address.is_dual_stack();
        let role = listen.role.unwrap_or_default();
        let mut absent = Vec::new();
        for address in addresses {
            match self.bind(address, dual, role, config) {
                Err(e) if is_absent(e.cause()) => absent.push(e),
                result => result?,
            }
        }
        if absent.len() == addresses.len() {
            return absent.into_iter().next().map_or(Ok(()), Err);
        }
        for error in absent {
            warn!("{}: {error}", listen.address);
        }
        Ok(())
    }

    fn bind(
        &mut self,
        address: &Address,
        dual: bool,
        role: Role,
        config: &Config,
    ) -> Result<(), BindError> {
        match self.try_bind(address, dual, role, config) {
            // Without IPv6 the address is bound for IPv4 alone.
            Err(e) if dual && is_absent(&e) => {
                let address = address.with_ip(Ipv4Addr::UNSPECIFIED.into());
                let again = self.try_bind(&address, false, role, config);
                again.map_err(|e| BindError::new(&address, e))
            }
            result => result.map_err(|e| BindError::new(address, e)),
        }
    }

    fn try_bind(
        &mut self,
        address: &Address,
        dual: bool,
        role: Role,
        config: &Config,
    ) -> io::Result<()> {
        let sockets = &sockets_for(role, &config.sockets);
        let (address, options) = if address.is_datagram() {
            let most = if config.once { 1 } else { usize::MAX };
            let socket = DatagramSocket::bind(address, dual, sockets, most)?;
            let address = socket.address().clone();
            let options = sockets.in_force(&socket.as_socket());
            self.datagram_sockets.push(socket);
            (address, options)
        } else {
            let listener = Listener::bind(address, dual, sockets)?;
            let address = listener.address().clone();
            let options = sockets.in_force(&listener.as_socket());
            self.listener_infos.push(ListenerInfo {
                role,
                address: address.clone(),
            });
            self.listeners.push(listener);
            (address, options)
        };
        self.addresses.push(BoundAddress {
            address,
            role,
            options,
        });
        Ok(())
    }
}

/// The options of a listener's sockets. Clients that only subscribe stay when their input ends, so
/// vanished ones are found by keepalive, unless the configuration says otherwise.
fn sockets_for(role: Role, sockets: &SocketOptions) -> SocketOptions {
    let mut sockets = sockets.clone();
    if role == Role::Subscribe {
        sockets.keepalive.get_or_insert(SUBSCRIBER_KEEPALIVE);
    }
    sockets
}

/// True for the error of binding an address that this machine has not.
fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::address::ListenAddress;

    /// Addresses of TCP. No machine has those of 240.0.0.0/4 (RFC 1112).
    fn addresses(hosts: &[&str]) -> Vec<Address> {
        let address = |host: &&str| Address::Tcp(format!("{host}:0").parse().unwrap());
        hosts.iter().map(address).collect()
    }

    fn bind(hosts: &[&str]) -> Result<Bound, BindError> {
        let listen = Listen::from("name:7".parse::<ListenAddress>().unwrap());
        let mut bound = Bound::default();
        let result = bound.bind_name(&listen, &addresses(hosts), &Config::default());
        result.map(|()| bound)
    }

    /// One address that the machine lacks was enough to refuse the name.
    #[test]
    fn name_is_served_at_the_addresses_that_the_machine_has() {
        let bound = bind(&["240.0.0.1", "127.0.0.1", "240.0.0.2"]).unwrap();
        assert_eq!(bound.listeners.len(), 1);
        let address = bound.addresses[0].address.socket_addr().unwrap();
        assert!(address.ip().is_loopback());
    }

    #[test]
    fn name_without_an_address_of_the_machine_is_an_error() {
        let error = bind(&["240.0.0.1", "240.0.0.2"]).err().unwrap();
        let text = "cannot listen on 240.0.0.1:0: cannot assign requested address";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn address_that_the_machine_has_and_cannot_be_bound_is_an_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = Address::Tcp(taken.local_addr().unwrap());
        let listen = Listen::from("name:7".parse::<ListenAddress>().unwrap());
        let all = [addresses(&["127.0.0.1"]), vec![taken]].concat();
        let mut bound = Bound::default();
        let error = bound.bind_name(&listen, &all, &Config::default());
        assert!(error.unwrap_err().to_string().contains("in use"));
    }
}
