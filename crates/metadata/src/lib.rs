//! The migration of Milvus' metadata from the layout of 2.1 to that of 2.2.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | pure: keys, messages, the plan as data, the transform, differences, backup files |
//! | [`executor`] | the same carried out on etcd, safely and resumably; which layout an etcd holds |

pub mod executor;
pub mod model;
