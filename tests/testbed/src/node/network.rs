use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::Error;
use crate::command::{expect_output, only_neutral_environment};

use super::packages::search_path;

/// The network of one node: a /24 of the range that RFC 2544 reserves for tests of equipment, so it
/// collides with no real network.
///
/// The lowest addresses are the two ends of the cable; Services start at 64, pods at 128.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    number: u8,
    /// Index of the cable's end on the machine.
    pub(super) index: u32,
}

impl Network {
    /// Creates the cable; both ends are still on the machine. Its name reserves the network: only
    /// one node can create it, and the kernel removes it with the node's network namespace.
    pub(super) fn reserve() -> Result<Self, Error> {
        let mut last = String::new();
        for number in 0..=u8::MAX {
            let mut network = Self { number, index: 0 };
            let link = network.link();
            match ip(&[
                "link",
                "add",
                &link,
                "type",
                "veth",
                "peer",
                "name",
                &format!("{link}p"),
            ]) {
                Ok(_) => {
                    network.index = network.present().ok_or_else(|| {
                        Error::new(format!("{link} vanished as soon as it was made"))
                    })?;
                    return Ok(network);
                }
                Err(error) => last = error.to_string(),
            }
            if network.present().is_none() {
                break;
            }
        }
        Err(Error::new(format!("no network for a node: {last}")))
    }

    /// Removes the cable, if it still exists.
    pub(super) fn release(self) {
        if self.present() == Some(self.index) {
            // This fails only if a started node removed the cable first, which is equally good.
            let _ = ip(&["link", "delete", &self.link()]);
        }
    }

    /// Interface index of the link with the cable's name on the machine, if any.
    fn present(self) -> Option<u32> {
        fs::read_to_string(format!("/sys/class/net/{}/ifindex", self.link()))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Name of the cable's end on the machine.
    pub(super) fn link(self) -> String {
        format!("mgtestbed{}", self.number)
    }

    fn address(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, host)
    }

    pub(super) fn host(self) -> Ipv4Addr {
        self.address(1)
    }

    pub(super) fn node(self) -> Ipv4Addr {
        self.address(2)
    }

    /// Address of the Service `kubernetes`: the first one.
    pub(super) fn kubernetes(self) -> Ipv4Addr {
        self.address(65)
    }

    pub(super) fn all(self) -> String {
        format!("{}/24", self.address(0))
    }

    pub(super) fn services(self) -> String {
        format!("{}/26", self.address(64))
    }

    pub(super) fn pods(self) -> String {
        format!("{}/25", self.address(128))
    }
}

fn ip(args: &[&str]) -> Result<String, Error> {
    let mut ip = Command::new("ip");
    only_neutral_environment(&mut ip);
    expect_output(ip.env("PATH", search_path()).args(args))
}
