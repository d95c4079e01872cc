use std::ffi::OsString;
use std::thread;

use crate::daemon::{Daemon, Ready};
use crate::error::or_panic;
use crate::http::Client;
use crate::ports::with_free_ports;
use crate::programs::Program;
use crate::scratch::Scratch;
use crate::{Error, command};

/// Members of a cluster: the smallest number that tolerates the loss of one.
const MEMBERS: usize = 3;

/// An etcd cluster of three members, without TLS and users, on free loopback ports. It is stopped
/// when this value is dropped.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    daemon: Daemon,
    port: u16,
    // Its data, which is removed with it.
    _scratch: Scratch,
}

impl EtcdCluster {
    /// Starts the members and waits until all of them are healthy.
    ///
    /// # Panics
    /// When one does not start; the message contains the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        or_panic(with_free_ports(|ports: [u16; 2 * MEMBERS]| {
            Self::start_on(&ports)
        }))
    }

    fn start_on(ports: &[u16]) -> Result<Self, Error> {
        let (clients, peers) = ports.split_at(MEMBERS);
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(number, port)| format!("m{number}=http://127.0.0.1:{port}"))
            .collect();
        let cluster = cluster.join(",");
        // A member is ready only when the majority runs.
        let members = thread::scope(|scope| {
            let starting: Vec<_> = (0..MEMBERS)
                .map(|number| {
                    scope.spawn({
                        let cluster = &cluster;
                        move || Member::start(number, clients[number], peers[number], cluster)
                    })
                })
                .collect();
            starting
                .into_iter()
                .map(|member| {
                    member
                        .join()
                        .unwrap_or_else(|_| Err(Error::new("a thread that started etcd panicked")))
                })
                .collect::<Result<Vec<_>, _>>()
        })?;
        Ok(Self { members })
    }

    /// Endpoints of all members for clients.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| format!("http://127.0.0.1:{}", member.port))
            .collect()
    }

    /// The process of one member.
    ///
    /// # Panics
    /// When there is no member of this number.
    #[must_use]
    pub fn daemon(&self, member: usize) -> &Daemon {
        &self.members[member].daemon
    }
}

impl Member {
    fn start(number: usize, port: u16, peer_port: u16, cluster: &str) -> Result<Self, Error> {
        let scratch = Scratch::new("etcd")?;
        let (client, peer) = (
            format!("http://127.0.0.1:{port}"),
            format!("http://127.0.0.1:{peer_port}"),
        );
        let mut args: Vec<OsString> = [
            format!("--name=m{number}"),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={cluster}"),
            "--initial-cluster-state=new".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ]
        .map(OsString::from)
        .to_vec();
        args.push(command::flag("--data-dir", &scratch.join("data")));
        let health = Client::plain(port);
        let ready: Ready =
            Box::new(move |log| log.contains("serving client traffic") && health.is_ok("/health"));
        let daemon = Daemon::start(Program::Etcd, args, &scratch, ready)?;
        Ok(Self {
            daemon,
            port,
            _scratch: scratch,
        })
    }
}
