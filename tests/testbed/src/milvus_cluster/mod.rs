mod images;
mod services;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Output;
use std::thread;

use serde_json::json;

use crate::daemon::{Daemon, Ready};
use crate::error::or_panic;
use crate::milvus::python;
use crate::{Bundle, Error, MilvusVersion, Node};
use services::Services;

/// A [`Node`] with everything that a distributed Milvus needs: images of these versions, etcd,
/// object storage and a message queue. A chart installs Milvus itself, with [`Self::values`].
///
/// etcd, MinIO and Kafka are processes in the node's network, as in clusters that run them outside
/// of Kubernetes; pods and the test reach them at [`Node::address`].
#[derive(Debug)]
pub struct MilvusCluster {
    // Dropped before the node, whose network they use. `None` only if a restart failed.
    services: Option<Services>,
    node: Node,
}

impl MilvusCluster {
    /// Starts the node and the services, and builds the images.
    ///
    /// # Panics
    /// When a part does not start: not root, packages missing, no Java.
    #[must_use]
    #[track_caller]
    pub fn start(versions: &[MilvusVersion]) -> Self {
        or_panic(Self::try_start(versions))
    }

    /// [`Self::start`] without the panic.
    ///
    /// # Errors
    /// When a part does not start: not root, packages missing, no Java.
    pub fn try_start(versions: &[MilvusVersion]) -> Result<Self, Error> {
        Self::check()?;
        for bundle in [&[Bundle::Milvus], &Bundle::ROLL[..]].concat() {
            bundle.try_dir()?;
        }
        let node = Node::try_start()?;
        let services = thread::scope(|scope| {
            let services = scope.spawn(|| Services::start(&node));
            images::build(&node, versions)?;
            services
                .join()
                .unwrap_or_else(|_| Err(Error::new("starting the services panicked")))
        })?;
        Ok(Self {
            services: Some(services),
            node,
        })
    }

    /// Stops etcd, MinIO and Kafka, and starts them at the same addresses without their data, for a
    /// new Milvus. Their clients must have ended.
    ///
    /// # Panics
    /// When one of them does not start.
    #[track_caller]
    pub fn empty_services(&mut self) {
        // The old processes hold the ports.
        self.services = None;
        self.services = Some(or_panic(Services::start(&self.node)));
    }

    #[track_caller]
    fn services(&self) -> &Services {
        match &self.services {
            Some(services) => services,
            None => panic!("the services were not started again"),
        }
    }

    /// Checks whether this machine can run such a cluster.
    ///
    /// # Errors
    /// When it cannot, with the remedy: not root, or packages missing.
    pub fn check() -> Result<(), Error> {
        Node::check()?;
        services::check()
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The etcd with Milvus's metadata and sessions: `http://<address>:<port>`.
    #[must_use]
    pub fn etcd_endpoint(&self) -> String {
        format!("http://{}", self.services().etcd)
    }

    /// Runs etcdctl on that etcd and returns its output.
    ///
    /// # Panics
    /// When etcdctl cannot be started.
    #[track_caller]
    pub fn etcdctl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        or_panic(self.services().etcdctl(args))
    }

    /// Values of the Milvus chart, as JSON, with the addresses of these services. Probes are early
    /// and frequent: the chart's delay of 90 s would add to every step of an upgrade.
    #[must_use]
    pub fn values(&self) -> String {
        let services = self.services();
        let (s3_host, s3_port) = (
            services.minio.ip().to_string(),
            services.minio.port().to_string(),
        );
        json!({
            "cluster": {"enabled": true},
            "etcd": {"enabled": false},
            "minio": {"enabled": false},
            "pulsar": {"enabled": false},
            "kafka": {"enabled": false},
            "externalEtcd": {"enabled": true, "endpoints": [services.etcd.to_string()]},
            "externalS3": {
                "enabled": true, "host": s3_host, "port": s3_port,
                "accessKey": services::USER, "secretKey": services::PASSWORD,
                "bucketName": "milvus-bucket", "rootPath": "files",
                "useSSL": false, "useIAM": false, "cloudProvider": "aws",
            },
            "externalKafka": {
                "enabled": true, "brokerList": services.kafka.to_string(),
                "securityProtocol": "PLAINTEXT", "sasl": {"mechanisms": "PLAIN"},
            },
            "readinessProbe": {"initialDelaySeconds": 2, "periodSeconds": 2},
            "livenessProbe": {"initialDelaySeconds": 60},
        })
        .to_string()
    }

    /// Address of a Service, `<cluster IP>:<port>`, which the test can reach too.
    ///
    /// # Panics
    /// When there is no such Service.
    #[must_use]
    #[track_caller]
    pub fn service_address(&self, namespace: &str, name: &str, port: u16) -> String {
        let service = self
            .node
            .get_json(&format!("/api/v1/namespaces/{namespace}/services/{name}"));
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        format!("{address}:{port}")
    }

    /// Runs a Python script that can import `pymilvus`, and returns its output. It is stopped with
    /// the test.
    ///
    /// # Panics
    /// When Python cannot be started.
    #[track_caller]
    pub fn python<A: AsRef<OsStr>>(
        &self,
        script: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Output {
        or_panic(python(script, args))
    }

    /// Starts a Python script that can import `pymilvus` and that runs during the test. It is ready
    /// when it has printed `ready`, and is stopped by SIGTERM.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn background(&self, name: &'static str, script: &Path, args: &[&OsStr]) -> Daemon {
        or_panic(self.try_background(name, script, args))
    }

    fn try_background(
        &self,
        name: &'static str,
        script: &Path,
        args: &[&OsStr],
    ) -> Result<Daemon, Error> {
        let wheels = Bundle::Milvus.try_dir()?;
        let mut client = OsString::from("PYTHONPATH=");
        client.push(wheels.join("client"));
        let mut all: Vec<OsString> = vec![client, "PYTHONDONTWRITEBYTECODE=1".into()];
        all.extend(["PYTHONNOUSERSITE=1".into(), "PYTHONUNBUFFERED=1".into()]);
        all.extend([wheels.join("python").into(), script.into()]);
        all.extend(args.iter().map(OsString::from));
        let ready: Ready = Box::new(|log| log.lines().any(|line| line == "ready"));
        let scratch = self.node.scratch();
        Daemon::start_other(name, "env".into(), all, scratch, String::new(), ready)
    }
}
