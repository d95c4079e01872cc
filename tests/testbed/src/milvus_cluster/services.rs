//! Storage of Milvus: etcd, MinIO and Kafka, in the network of a node.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::command::{expect_output, flag, only_neutral_environment, run};
use crate::daemon::{Daemon, Ready};
use crate::http::Client;
use crate::scratch::Scratch;
use crate::{Bundle, Error, Node, Program};

/// User of MinIO.
pub(super) const USER: &str = "minioadmin";
/// Password of that user.
pub(super) const PASSWORD: &str = "minioadmin";
/// Kafka requires a cluster ID of 16 bytes in Base64.
const KAFKA_CLUSTER: &str = "bWlsdnVzLWd1YXJkLXRiIQ";
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// The running services and their addresses. The node's network has no other programs, so the ports
/// are the default ones.
#[derive(Debug)]
pub(super) struct Services {
    _daemons: [Daemon; 3],
    pub(super) etcd: SocketAddr,
    pub(super) minio: SocketAddr,
    pub(super) kafka: SocketAddr,
    _scratch: Scratch,
}

/// Checks whether the machine has a Java.
pub(super) fn check() -> Result<(), Error> {
    let mut java = Command::new("java");
    only_neutral_environment(&mut java);
    expect_output(java.arg("-version"))
        .map(|_| ())
        .map_err(|error| {
            Error::new(format!(
                "the message queue needs a Java (apt-get install openjdk-17-jre-headless): {error}"
            ))
        })
}

impl Services {
    pub(super) fn start(node: &Node) -> Result<Self, Error> {
        let scratch = Scratch::new("services")?;
        let at = |port: u16| SocketAddr::from((node.address(), port));
        let (etcd, minio, kafka) = (at(2379), at(9000), at(9092));
        let daemons = [
            start_kafka(node, &scratch, kafka)?,
            start_etcd(node, &scratch, etcd)?,
            start_minio(node, &scratch, minio)?,
        ];
        Ok(Self {
            _daemons: daemons,
            etcd,
            minio,
            kafka,
            _scratch: scratch,
        })
    }

    pub(super) fn etcdctl<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output, Error> {
        let mut etcdctl = Command::new(Program::Etcdctl.try_path()?);
        only_neutral_environment(&mut etcdctl);
        etcdctl.env("ETCDCTL_API", "3");
        etcdctl
            .arg(format!("--endpoints=http://{}", self.etcd))
            .args(args);
        run(&mut etcdctl, "")
    }
}

/// Starts a program of the machine that uses only the network namespace of the node.
fn start(
    node: &Node,
    name: &'static str,
    args: Vec<OsString>,
    scratch: &Scratch,
    ready: Ready,
) -> Result<Daemon, Error> {
    let mut all: Vec<OsString> = vec![format!("--target={}", node.init()).into()];
    all.extend(["--net".into(), "--".into(), "env".into()]);
    all.extend(args);
    Daemon::start_other(name, "nsenter".into(), all, scratch, String::new(), ready)
}

fn start_etcd(node: &Node, scratch: &Scratch, address: SocketAddr) -> Result<Daemon, Error> {
    let peer = format!("http://{}:2380", address.ip());
    let args = vec![
        Program::Etcd.try_path()?.into(),
        "--name=milvus".into(),
        format!("--listen-client-urls=http://{address}").into(),
        format!("--advertise-client-urls=http://{address}").into(),
        format!("--listen-peer-urls={peer}").into(),
        format!("--initial-advertise-peer-urls={peer}").into(),
        format!("--initial-cluster=milvus={peer}").into(),
        "--unsafe-no-fsync".into(),
        flag("--data-dir", &scratch.join("milvus-etcd")),
    ];
    let client = Client::plain_at(address);
    let ready: Ready = Box::new(move |_| client.is_ok("/health"));
    start(node, "milvus-etcd", args, scratch, ready)
}

fn start_minio(node: &Node, scratch: &Scratch, address: SocketAddr) -> Result<Daemon, Error> {
    let args = vec![
        format!("MINIO_ROOT_USER={USER}").into(),
        format!("MINIO_ROOT_PASSWORD={PASSWORD}").into(),
        "MINIO_BROWSER=off".into(),
        "MINIO_UPDATE=off".into(),
        // Otherwise MinIO refuses a folder on the machine's root file system.
        "MINIO_CI_CD=1".into(),
        Program::Minio.try_path()?.into(),
        "server".into(),
        format!("--address={address}").into(),
        flag("--certs-dir", &scratch.join("minio-certs")),
        scratch.join("minio").into(),
    ];
    let client = Client::plain_at(address);
    let ready: Ready = Box::new(move |_| client.is_ok("/minio/health/ready"));
    start(node, "minio", args, scratch, ready)
}

fn start_kafka(node: &Node, scratch: &Scratch, address: SocketAddr) -> Result<Daemon, Error> {
    let config = scratch.write("kafka.properties", &kafka_config(scratch, address))?;
    let mut classes = Bundle::Kafka.try_dir()?.join("libs").into_os_string();
    classes.push("/*");
    let java = |main: &str, args: &[&OsStr]| -> Vec<OsString> {
        let mut all: Vec<OsString> = ["java", "-Xms256m", "-Xmx512m"].map(Into::into).to_vec();
        all.push("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".into());
        all.extend(["-cp".into(), classes.clone(), main.into()]);
        all.extend(args.iter().map(OsString::from));
        all
    };
    format_kafka(&java(
        "kafka.tools.StorageTool",
        &[
            "format".as_ref(),
            "-t".as_ref(),
            KAFKA_CLUSTER.as_ref(),
            "-c".as_ref(),
            config.as_ref(),
        ],
    ))?;
    let ready: Ready =
        Box::new(move |_| TcpStream::connect_timeout(&address, CONNECT_DEADLINE).is_ok());
    start(
        node,
        "kafka",
        java("kafka.Kafka", &[config.as_ref()]),
        scratch,
        ready,
    )
}

fn format_kafka(java: &[OsString]) -> Result<(), Error> {
    let mut format = Command::new(&java[0]);
    only_neutral_environment(&mut format);
    expect_output(format.args(&java[1..])).map(|_| ())
}

/// One broker that is also the controller.
fn kafka_config(scratch: &Scratch, address: SocketAddr) -> String {
    let controller = "127.0.0.1:9093";
    let data = |path: &Path| path.display().to_string();
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\nnum.partitions=1\noffsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=true\n\
         message.max.bytes=10485760\nreplica.fetch.max.bytes=10485760\n",
        data(&scratch.join("kafka"))
    )
}
