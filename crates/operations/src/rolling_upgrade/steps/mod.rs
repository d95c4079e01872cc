//! The steps, one file each.

pub(crate) mod alive;
pub(crate) mod alone;
pub(crate) mod capacity;
pub(crate) mod check;
pub(crate) mod configure;
pub(crate) mod create;
pub(crate) mod deletion_cost;
pub(crate) mod emptied;
pub(crate) mod end;
pub(crate) mod hand_over;
pub(crate) mod helm;
pub(crate) mod leaving;
pub(crate) mod loaded;
mod management;
pub(crate) mod paced;
mod pod_deletion;
mod pod_http;
mod predecessors;
pub(crate) mod proxies;
pub(crate) mod record;
pub(crate) mod release;
pub(crate) mod remove;
pub(crate) mod replica_set;
pub(crate) mod searched;
pub(crate) mod temporary;
pub(crate) mod update;
pub(crate) mod way_back;
