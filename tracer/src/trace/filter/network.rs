//! Networks in CIDR notation.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// A network: addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Network(pub(super) IpNet);

impl Network {
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }

    /// The network of the mapped address, with the same prefix length.
    pub(crate) fn with_address(&self, map: impl FnOnce(IpAddr) -> IpAddr) -> Self {
        // The prefix is valid for any address of the same family.
        let net = IpNet::new(map(self.0.network()), self.0.prefix_len());
        Self(net.map_or(self.0, |net| net.trunc()))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let net = address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            "give a network with its prefix length, such as 10.0.0.0/8 or 2001:db8::/32, or an address"
        })?;
        Ok(Self(unmapped(net).trunc()))
    }
}

/// An IPv4-mapped network as IPv4: addresses are compared in this form.
fn unmapped(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(net) if net.prefix_len() >= 96 => match net.addr().to_ipv4_mapped() {
            Some(address) => {
                Ipv4Net::new(address, net.prefix_len() - 96).map_or(net.into(), IpNet::V4)
            }
            None => net.into(),
        },
        net => net,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn mapped_network_equals_its_ipv4_form() {
        let mapped: Network = "::ffff:10.1.2.3/104".parse().unwrap();
        assert_eq!(mapped, "10.0.0.0/8".parse().unwrap());
        assert!(mapped.contains(IpAddr::from(Ipv4Addr::new(10, 9, 9, 9))));
        assert!(!mapped.contains(IpAddr::from(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn networks_are_parsed_and_truncated() {
        for text in ["10.0.0.0/33", "10.0.0", "::/129", "host", ""] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
        assert_eq!("10.1.2.3/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }
}
