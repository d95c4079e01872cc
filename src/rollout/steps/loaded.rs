//! Whether Milvus itself is whole again after its query nodes moved. Kubernetes calls a query node ready before its segments
//! are loaded, and searches then answer with nothing or half.

use crate::rollout::world::Cx;

/// Says that nobody asked Milvus.
pub(crate) fn unasked(cx: &Cx<'_>, why: &str) {
    cx.reporter().warn(format!(
        "could not ask Milvus whether every loaded collection has its segments on the new query nodes ({why}): searches may be \
         incomplete for a while after they are ready"
    ));
}
