//! Interfaces: those of the default routes, and those by which file systems and disks are reached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::{Mount, Scanner, last};
use crate::kernel::elf::canonical_name;
use crate::sys::file::{self, sorted_entries};

/// Flags of a route: it is up, or it rejects packets.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// A usable route.
#[derive(Debug)]
struct Route {
    to: IpAddr,
    bits: u32,
    interface: String,
}

impl Route {
    /// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`; addresses are words of this machine's byte order.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let (to, mask) = (number(1)?.to_ne_bytes(), number(7)?.to_ne_bytes());
        usable(number(3)?).then_some(Self {
            to: Ipv4Addr::from(to).into(),
            bits: u32::from_be_bytes(mask).leading_ones(),
            interface: (*words.first()?).to_owned(),
        })
    }

    /// `Destination Length Source Length Next Metric RefCnt Use Flags Iface`
    fn read_ipv6(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
        usable(flags).then_some(Self {
            to: Ipv6Addr::from(u128::from_str_radix(words.first()?, 16).ok()?).into(),
            bits: u32::from_str_radix(words.get(1)?, 16).ok()?,
            interface: (*words.get(9)?).to_owned(),
        })
    }

    fn leads_to(&self, address: IpAddr) -> bool {
        // Shifting by all bits is not defined.
        let same = |one: u128, other: u128, width: u32| {
            self.bits == 0 || self.bits <= width && (one ^ other) >> (width - self.bits) == 0
        };
        match (self.to, address) {
            (IpAddr::V4(to), IpAddr::V4(address)) => {
                same(u32::from(to).into(), u32::from(address).into(), 32)
            }
            (IpAddr::V6(to), IpAddr::V6(address)) => same(to.into(), address.into(), 128),
            _ => false,
        }
    }
}

fn usable(flags: u32) -> bool {
    flags & UP != 0 && flags & REJECT == 0
}

impl Scanner<'_> {
    fn routes(&self) -> Vec<Route> {
        let read = |path: &Path| file::text(path).unwrap_or_default();
        let (four, six) = (read(&self.layout.routes()), read(&self.layout.routes_ipv6()));
        four.lines().filter_map(Route::read).chain(six.lines().filter_map(Route::read_ipv6)).collect()
    }

    /// The interfaces of default routes.
    pub(super) fn default_routes(&mut self) {
        let routes = self.routes();
        let interfaces: BTreeSet<&str> =
            routes.iter().filter(|route| route.bits == 0).map(|route| route.interface.as_str()).collect();
        for name in interfaces {
            self.interface(&self.sys.join("class/net").join(name));
        }
    }

    /// The servers of a file system: NFS and CIFS state an address, Ceph lists its monitors as the source.
    pub(super) fn servers(&mut self, mount: &Mount) {
        let options = mount.options.split(',').filter_map(|option| option.strip_prefix("addr="));
        let source = mount.source.split(',').map(|one| one.rsplit_once(":/").map_or(one, |(host, _)| host));
        let addresses: BTreeSet<IpAddr> = options.chain(source).filter_map(address).collect();
        addresses.into_iter().for_each(|address| self.server(address));
    }

    /// The interface by which an address is reached.
    fn server(&mut self, address: IpAddr) {
        let routes = self.routes();
        let there = routes.iter().filter(|route| route.leads_to(address));
        let best = there.clone().map(|route| route.bits).max();
        for route in there.filter(|route| Some(route.bits) == best) {
            self.interface(&self.sys.join("class/net").join(&route.interface));
        }
    }

    /// A disk of an iSCSI target: the driver that speaks iSCSI has no device in sysfs.
    pub(super) fn iscsi(&mut self, device: &Path) {
        let parts = || device.components().filter_map(|part| part.as_os_str().to_str());
        let numbered = |prefix: &str| {
            parts().find(|part| {
                let number = part.strip_prefix(prefix).unwrap_or_default();
                !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
            })
        };
        let (Some(session), Some(host)) = (numbered("session"), numbered("host")) else { return };
        let read = |path: &Path| file::text(path).unwrap_or_default().trim().to_owned();
        let driver = read(&self.sys.join("class/scsi_host").join(host).join("proc_name"));
        self.add(&driver);
        let connections = format!("{}:", session.replacen("session", "connection", 1));
        for connection in sorted_entries(&self.sys.join("class/iscsi_connection")) {
            if last(&connection).starts_with(&connections) {
                address(&read(&connection.join("persistent_address")))
                    .into_iter()
                    .for_each(|one| self.server(one));
            }
        }
    }

    /// An interface, and the members of a bridge, bond or VLAN.
    fn interface(&mut self, interface: &Path) {
        let Ok(interface) = interface.canonicalize() else { return };
        if !self.seen.insert(interface.clone()) {
            return;
        }
        self.drivers(&interface);
        if interface.starts_with(self.sys.join("devices/virtual")) {
            // Many types of virtual interfaces have the name of their module: wireguard, bridge.
            let text = file::text(interface.join("uevent")).unwrap_or_default();
            let kind = text.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
            if let Some(kind) =
                kind.filter(|kind| self.sys.join("module").join(canonical_name(kind)).exists())
            {
                self.add(kind);
            }
        }
        for lower in sorted_entries(&interface).into_iter().filter(|entry| last(entry).starts_with("lower_"))
        {
            self.interface(&lower);
        }
    }
}

/// `10.0.0.1`, `10.0.0.1:6789`, `fd00::1`, `[fd00::1]:6789`, `fd00::1%eth0`
fn address(text: &str) -> Option<IpAddr> {
    let text = text.split('%').next().unwrap_or_default();
    let bracketed = text.strip_prefix('[').and_then(|text| text.split(']').next());
    let host = bracketed.unwrap_or(text);
    host.parse().ok().or_else(|| host.rsplit_once(':')?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        for (text, expected) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("10.0.0.1:6789", Some("10.0.0.1")),
            ("fd00::1", Some("fd00::1")),
            ("[fd00::1]:6789", Some("fd00::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("server.example", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected.map(|address| address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_route_leads_to_its_network() {
        let four = Route::read(&format!(
            "eth9 {:08X} 00000000 0001 0 0 0 {:08X} 0 0 0",
            ne([10, 9, 0, 0]),
            ne([255, 255, 0, 0])
        ));
        let four = four.unwrap();
        assert_eq!(four.bits, 16);
        for (address, leads) in [("10.9.1.1", true), ("10.8.1.1", false), ("fd00::1", false)] {
            assert_eq!(four.leads_to(address.parse().unwrap()), leads, "{address}");
        }
        let six = Route::read_ipv6("fd000000000000000000000000000000 08 0 0 0 0 0 0 00000001 eth9").unwrap();
        for (address, leads) in [("fd12::1", true), ("fe80::1", false), ("10.9.1.1", false)] {
            assert_eq!(six.leads_to(address.parse().unwrap()), leads, "{address}");
        }
        assert!(
            Route::read("eth9 00000000 00000000 0201 0 0 0 00000000 0 0 0").is_none(),
            "it rejects packets"
        );
    }

    fn ne(bytes: [u8; 4]) -> u32 {
        u32::from_ne_bytes(bytes)
    }
}
