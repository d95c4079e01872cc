//! The test bed: real etcd servers, real Kubernetes control planes and real Helm, which a test
//! starts and which end with the test.
//!
//! Everything listens on loopback, on free ports, and uses a separate temporary directory, so that
//! many instances run in parallel. A [`Node`], for tests that need running pods, has separate
//! network and process namespaces; only this needs root. The programs come from pinned Go modules
//! (see [`Program`]) and are built once into a cache outside the clone; those of a [`Milvus`] come
//! from pinned Python wheels. Everything that a value started ends when the value is dropped, when
//! the test panics, and when the test process is killed.
//!
//! ```no_run
//! use milvus_guard_testbed::{ControlPlane, Helm, expect_success};
//!
//! let cluster = ControlPlane::start();
//! cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: milvus}}");
//! expect_success(cluster.helm(Helm::V4, ["list", "--namespace", "milvus"]));
//! ```
//!
//! Functions here panic with a readable message, as assertions of a test do; if a caller may want
//! to continue, there is a `try_` form with an [`Error`].

mod access;
mod api_server;
mod build;
mod certs;
mod command;
mod control_plane;
mod daemon;
mod error;
mod etcd;
mod etcd_cluster;
mod http;
mod kubeconfig;
mod milvus;
mod milvus_cluster;
mod node;
mod ports;
mod postgres;
mod programs;
mod recipes;
mod scratch;
mod terminal;
mod wait;

pub use access::Access;
pub use command::{Helm, expect_success, helm};
pub use control_plane::{ControlPlane, ControlPlaneBuilder};
pub use daemon::Daemon;
pub use error::Error;
pub use etcd::{Etcd, EtcdOptions};
pub use etcd_cluster::EtcdCluster;
pub use http::Answer;
pub use milvus::{Milvus, MilvusStore, MilvusVersion};
pub use milvus_cluster::MilvusCluster;
pub use node::{BuildImage, Node, NodeOptions};
pub use postgres::Postgres;
pub use programs::{
    Bundle, ETCD_VERSION, HELM_3_VERSION, HELM_4_VERSION, KUBERNETES_VERSION, Program, cache_dir,
};
pub use terminal::Terminal;
pub use wait::{wait_for, wait_until};
