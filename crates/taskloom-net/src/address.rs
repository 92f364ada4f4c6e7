//! Addresses as people write them: `tcp://host:port`, `unix:///path/to/socket`.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a process listens. The text form is the identity of schedulers and workers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host` is a name or an IP address, without brackets.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("'{text}' is not an address; write tcp://host:port or unix:///path")]
    Malformed { text: String },
    #[error("address '{text}' has no valid port; write tcp://host:port with a port below 65536")]
    BadPort { text: String },
    #[error("host '{host}' cannot be resolved: {reason}")]
    Unresolvable { host: String, reason: String },
}

impl Address {
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }

    /// The socket addresses of a TCP address, IPv4 first: `localhost` then means the same to a
    /// listener and to a connector.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, AddressError> {
        let Self::Tcp { host, port } = self else { return Ok(Vec::new()) };
        let unresolvable =
            |reason: String| AddressError::Unresolvable { host: host.clone(), reason };
        let found = (host.as_str(), *port).to_socket_addrs();
        let mut found: Vec<_> = found.map_err(|error| unresolvable(error.to_string()))?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        if found.is_empty() {
            return Err(unresolvable("it has no address".into()));
        }
        Ok(found)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Accepts `tcp://host:port`, `host:port` and `unix:///path`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed { text: text.into() };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(malformed());
            }
            return Ok(Self::Unix(path.into()));
        }
        let rest = match text.split_once("://") {
            Some(("tcp", rest)) => rest,
            Some(_) => return Err(malformed()),
            None => text,
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        if host.is_empty() || host.contains(['/', '\0']) || host.contains(char::is_whitespace) {
            return Err(malformed());
        }
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits);
        let port = port.ok_or_else(|| AddressError::BadPort { text: text.into() })?;
        Ok(Self::tcp(host, port))
    }
}

/// The address by which other machines reach this one when a listener is bound to all
/// interfaces: the source address of a packet to the outside. No packet is sent.
#[must_use]
pub fn outward_ip(unspecified: IpAddr) -> Option<IpAddr> {
    // Documentation addresses: routable by the default route, and nobody's.
    let (any, far) = match unspecified {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(far).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_read() {
        for text in ["tcp://127.0.0.1:8786", "tcp://[::1]:1", "tcp://host.name:0", "unix:///a/b"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:8786".parse(), Ok(Address::tcp("localhost", 8786)));
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_the_text() {
        for text in ["", "tcp://", "http://x:1", "tcp://:1", "tcp://a b:1", "::1:5", "unix://rel"] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error, AddressError::Malformed { text: text.into() }, "{text}");
        }
        for text in ["tcp://h:", "tcp://h:65536", "tcp://h:+1", "tcp://h:x"] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error, AddressError::BadPort { text: text.into() }, "{text}");
        }
    }

    #[test]
    fn localhost_resolves_to_ipv4_first() {
        let found = Address::tcp("localhost", 7).resolve().unwrap();
        assert!(found[0].is_ipv4() && found[0].ip().is_loopback());
    }
}
