use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::Error;
use crate::command::{expect_output, only_neutral_environment};

use super::packages::search_path;

/// The network of one node: a /24 of the range that RFC 2544 sets aside for tests of equipment, so
/// that it is nobody's own.
///
/// The lowest addresses are the cable's two ends, from 64 on come Services, from 128 on pods.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network {
    number: u8,
    /// Index of the cable's end on the machine.
    pub(super) index: u32,
}

impl Network {
    /// Lays the cable, both ends still on the machine. Its name is what keeps two nodes from the
    /// same network: only one of them can make it, and the kernel removes it with the node's
    /// network namespace.
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

    /// Takes the cable away, if it is still there.
    pub(super) fn release(self) {
        if self.present() == Some(self.index) {
            // Only a node that has begun could have been faster, and then it is what was wanted.
            let _ = ip(&["link", "delete", &self.link()]);
        }
    }

    /// Index of what has the cable's name on the machine now.
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
