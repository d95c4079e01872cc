//! A live Kubernetes cluster: its workloads, Helm's records, and other facts.
//!
//! | module | holds |
//! |---|---|
//! | [`client`] | the connection; raw JSON in bounded pages |
//! | [`kubeconfig`] | the kubeconfig, found and merged as kubectl does |
//! | [`overrides`] | settings that override the kubeconfig |
//! | [`error`] | why something could not be read, as messages for people |
//! | [`live`] | the workloads of a namespace as a snapshot, with their facts |
//! | [`storage`] | Helm's revisions, from Secrets or `ConfigMaps` |
//! | [`guard`] | the guard's own policies, exceptions and runs |
//! | [`evidence`] | pure: rollouts, autoscalers, deployers from what was read |
//! | [`view`] | pure: a namespace for the webhook: workloads and facts |
//! | [`drift`] | pure: the running state compared with Helm's records |
//! | [`lease`] | one holder at a time |
//! | [`ping`] | whether the API server reaches the guard |
//! | [`replicas`] | which runs each replica of the guard knows |
//! | [`rollout`] | waits until Deployments are in a wanted state |
//! | [`pods`] | pure: metadata and status of pods |
//! | [`mod@typed`] | pure: typed objects from JSON values |
//! | [`workloads`] | changes Deployments and leaves no field owned by our field manager |
//!
//! Nothing here decides. Objects that may not be read are listed; only the workloads themselves
//! must be readable.

pub mod client;
pub mod drift;
pub mod error;
pub mod evidence;
pub mod guard;
pub mod kubeconfig;
pub mod lease;
pub mod live;
pub mod overrides;
pub mod ping;
pub mod pods;
pub mod replicas;
pub mod rollout;
pub mod storage;
pub mod typed;
pub mod view;
pub mod workloads;

pub use client::Cluster;
pub use error::ClusterError;
pub use kubeconfig::Access;
pub use live::{NotRead, Reading};
pub use overrides::Overrides;
pub use storage::HelmRecord;
pub use typed::typed;
pub use view::NamespaceView;
