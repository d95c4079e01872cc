//! `crds`.

use milvus_guard_core::api::crd;

use super::{
    exit::{Done, Exit},
    output::print,
};

pub(super) fn run() -> Done {
    print(&crd::yaml())?;
    Ok(Exit::Clean)
}
