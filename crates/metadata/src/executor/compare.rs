//! The content of etcd compared with a plan.

use etcd_client::GetOptions;
use futures::StreamExt as _;

use crate::model::{
    Plan, Root,
    compare::{ForeignChanges, Remaining},
    spans::{Checkpoint, ReadMode},
};
use milvus_guard_sources::etcd::{
    connection::EtcdConnection,
    failure::{Failure, Kind},
};

use super::{
    events::{Events, Running},
    target::{Seen, scan, span, standing},
};

/// Keys of a page that is read completely; more than any span should have.
const PAGE: i64 = 4_000;

/// Reads everything and compares it with the plan, record by record. Also returns the revision at
/// which it was read.
pub(super) async fn compare<'p, 'd>(
    store: &EtcdConnection<'_>,
    root: &Root,
    plan: &'p Plan<'d>,
    standpoint: Checkpoint,
    events: &dyn Events,
    mut running: Running<'_>,
) -> Result<(Result<Remaining<'p, 'd>, ForeignChanges>, i64), Failure> {
    let mut comparison = plan.comparison();
    let spans = || plan.spans(standpoint).map(|part| span(root, &part));
    let moment = scan(store, root, spans, events, &mut |seen| match seen {
        Seen::Again => {
            comparison = plan.comparison();
            running.restart();
        }
        Seen::Record(standing) => {
            comparison.see(standing);
            running.advance(1);
        }
    })
    .await?;
    running.finish();
    Ok((comparison.finish(), moment.revision))
}

/// Whether everything is written and nothing else has changed since the revision at which
/// everything was read. If not, or if that is unknown, a full comparison gives the details.
pub(super) async fn is_written(
    store: &EtcdConnection<'_>,
    root: &Root,
    plan: &Plan<'_>,
    read_at: i64,
    running: &mut Running<'_>,
) -> Result<bool, Failure> {
    let mut check = plan.written_check();
    let revision = store.moment(0).await?.revision;
    let requests = plan.spans(Checkpoint::Between).map(|part| {
        let keys = span(root, &part);
        let options = GetOptions::new()
            .with_range(keys.to)
            .with_revision(revision);
        let options = match part.look {
            ReadMode::Count => options.with_count_only(),
            ReadMode::Changes => options.with_keys_only().with_min_mod_revision(read_at + 1),
            ReadMode::Whole => options.with_limit(PAGE),
        };
        (keys.from, options)
    });
    let mut answers = Box::pin(store.answers(requests));
    for part in plan.spans(Checkpoint::Between) {
        let answer = match answers.next().await {
            Some(Ok(answer)) => answer,
            Some(Err(failure))
                if matches!(failure.kind, Kind::Compacted | Kind::AnswerTooLarge) =>
            {
                return Ok(false);
            }
            Some(Err(failure)) => return Err(failure),
            None => return Ok(false),
        };
        let found = answer.kvs().iter().filter_map(|pair| standing(root, pair));
        if !check.is_as_planned(
            &part,
            u64::try_from(answer.count()).unwrap_or_default(),
            found,
        ) {
            return Ok(false);
        }
        running.advance(part.keys);
    }
    Ok(true)
}
