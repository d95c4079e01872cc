//! The adapters that read the inputs of milvus-guard. An adapter turns bytes or objects into the
//! types of `milvus-guard-core`; it decides nothing.
//!
//! | module | holds |
//! |---|---|
//! | [`files`] | manifest files, folders, the output of `helm template`, plans of Terraform |
//! | [`kubernetes`] | a live cluster: releases, workloads, pods, Helm's records, leases |
//! | [`etcd`] | connections to etcd: paged reads at one revision, guarded transactions, leases |
//! | [`milvus`] | the state of a running Milvus: health, version, loaded collections |

pub mod etcd;
pub mod files;
pub mod kubernetes;
pub mod milvus;
