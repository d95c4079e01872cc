//! Moves one component to the new image, and waits at its gate.

use std::time::Duration;

use crate::{
    engine::{StepError, display::took, originals},
    rolling_upgrade::{
        context::{
            Direction, StepContext, VERSION_LABEL, originals_of, strategy, version_label_path,
        },
        plan::{Move, Templates},
    },
};
use milvus_guard_core::{
    api::Original,
    milvus::{Component, catalogue::Gate},
};
use milvus_guard_sources::kubernetes::{
    rollout::{Wanted, Watched},
    workloads::{Change, is_paused},
};

use super::{
    alive, alone, deletion_cost, emptied, helm, loaded, paced, predecessors, proxies, proxy_drain,
    release, searched, temporary,
};

/// Gives the component its image, once all components before it are on the target.
pub(crate) async fn apply(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let originals = predecessors::originals_after_others(cx, one).await?;
    loaded::before(cx, one, async || is_begun(cx, &originals).await).await?;
    for original in originals {
        if replace(cx, one, &original, Direction::Forward).await? {
            cx.data.pace.began();
        }
    }
    Ok(())
}

/// Waits until the component is completely on its new image, and Milvus serves with it.
pub(crate) async fn gate(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let originals = originals_of(cx, one)?;
    let wanted = if one.gate == Gate::Running {
        Wanted::Running
    } else {
        Wanted::Complete
    };
    let watched = originals::watched(cx, &originals).await?;
    let rollout = async {
        for original in &originals {
            one_by_one(cx, one, original, Direction::Forward).await?;
        }
        originals::wait_for(cx, &watched, wanted, cx.data.settings.hopeless).await
    };
    let asks = !(one.at_once_with_next || wanted == Wanted::Running);
    // An old pod may still terminate while Milvus is asked; its session is removed then, too.
    let work = release::during(cx, &watched, async {
        let ready = rollout.await?;
        // If the next component must follow at once, nothing may delay it.
        let alive = if asks {
            alive::ask(cx, &alive::Moved::to(cx, one), &watched).await?
        } else {
            None
        };
        settle(cx, &originals, &watched).await?;
        let whole = loaded::again(cx, one).await?;
        let right = if asks {
            searched::again(cx, one).await?
        } else {
            None
        };
        Ok(right.or(whole).or(alive).unwrap_or(ready))
    });
    let takeover = of_takeover(cx, &watched);
    let whole = Box::pin(proxies::during(cx, one.component, takeover, work)).await?;
    tell_pace(cx, one, whole);
    Ok(())
}

/// Restores the old image, and waits until the component is completely on it and serves.
pub(crate) async fn undo(cx: &StepContext<'_>, one: &Move) -> Result<(), StepError> {
    let originals = originals_of(cx, one)?;
    if one.component == Component::QueryNode {
        emptied::use_again(cx).await?;
    }
    for original in &originals {
        match cx.data.rollout.templates {
            Templates::FromRun => drop(replace(cx, one, original, Direction::Back).await?),
            Templates::FromHelm => helm::back(cx, original).await?,
        }
    }
    let watched = originals::watched(cx, &originals).await?;
    let rollout = async {
        for original in &originals {
            one_by_one(cx, one, original, Direction::Back).await?;
        }
        originals::wait_for(cx, &watched, Wanted::Complete, Duration::MAX).await
    };
    let work = release::during(cx, &watched, async {
        rollout.await?;
        alive::ask(cx, &alive::Moved::back(cx, one), &watched).await?;
        settle(cx, &originals, &watched).await?;
        loaded::back(cx, one).await?;
        searched::back(cx, one).await
    });
    let takeover = of_takeover(cx, &watched);
    Box::pin(proxies::during(cx, one.component, takeover, work)).await
}

/// The Deployments that a takeover of the root coordinator is about.
async fn of_takeover(
    cx: &StepContext<'_>,
    coordinators: &[Watched],
) -> Result<proxies::Deployments, StepError> {
    Ok(proxies::Deployments {
        coordinators: coordinators.to_vec(),
        proxies: proxies::deployments(cx).await?,
    })
}

/// Ends old pods one after the other, if Kubernetes does not.
async fn one_by_one(
    cx: &StepContext<'_>,
    one: &Move,
    original: &Original,
    direction: Direction,
) -> Result<(), StepError> {
    match one.component {
        Component::Proxy => Box::pin(proxy_drain::through(cx, original, direction)).await,
        _ => Box::pin(paced::through(cx, one, original, direction)).await,
    }
}

/// Gives one Deployment the image of this direction; returns whether anything had to be changed.
async fn replace(
    cx: &StepContext<'_>,
    one: &Move,
    original: &Original,
    direction: Direction,
) -> Result<bool, StepError> {
    let deployment = originals::live(cx, original).await?;
    let images = Change {
        images: images(cx, original, direction),
        paused: brought(cx, direction).paused,
        ..Change::default()
    };
    let mut change = change(cx, original, direction);
    if !images.is_made(&deployment) {
        let rollout = &cx.data.rollout;
        let now = match direction {
            Direction::Forward => rollout.from.version,
            Direction::Back => rollout.to.version,
        };
        release::see(cx, &[Watched::of(&deployment)]).await?;
        let is_resumed = temporary::remembered(original, temporary::REPLICAS).is_some();
        // During a rollback it may be alone already, and its successor may never become ready.
        if change.strategy.is_some() && !(is_resumed && direction == Direction::Back) {
            // Boxed, because it holds whole Deployments.
            Box::pin(alone::leave(cx, one, original, &deployment, now)).await?;
        }
    }
    let turn = match (direction, images.is_made(&deployment)) {
        (Direction::Forward, true) => None,
        (Direction::Forward, false) => Some(paced::Turn::Comes),
        (Direction::Back, true) => Some(paced::Turn::Returned),
        (Direction::Back, false) => Some(paced::Turn::Returns),
    };
    let pace = match (one.component, turn) {
        (Component::Proxy, Some(turn)) => {
            proxy_drain::begin(cx, original, &deployment, turn).await?
        }
        (Component::QueryNode, Some(turn)) => {
            paced::begin(cx, one, original, &deployment, turn).await?
        }
        _ => Change::default(),
    };
    change.min_ready_seconds = pace.min_ready_seconds;
    change.progress_deadline_seconds = pace.progress_deadline_seconds;
    if one.component == Component::QueryNode
        && let Some(strategy) = &mut change.strategy
    {
        strategy["rollingUpdate"]["maxSurge"] = paced::surge(cx, original, &deployment).into();
    }
    originals::set(cx, original, &change).await
}

/// Whether one of them has the new image already.
async fn is_begun(cx: &StepContext<'_>, originals: &[Original]) -> Result<bool, StepError> {
    for original in originals {
        let live = originals::live(cx, original).await?;
        // What Helm changed has its new image before its turn, and is paused until then.
        if predecessors::off_target(&live, original, &cx.data.rollout.image).is_none()
            && !is_paused(&live)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The images for a Deployment, by container.
fn images(
    cx: &StepContext<'_>,
    original: &Original,
    direction: Direction,
) -> Vec<(String, String)> {
    let of = |recorded: &String| match direction {
        Direction::Forward => cx.data.rollout.image.clone(),
        Direction::Back => recorded.clone(),
    };
    original
        .images
        .iter()
        .map(|one| (one.container.clone(), of(&one.image)))
        .collect()
}

/// The change that removes the pause, if Helm brought the new template.
fn brought(cx: &StepContext<'_>, direction: Direction) -> Change {
    match (cx.data.rollout.templates, direction) {
        (Templates::FromHelm, Direction::Forward) => helm::released(),
        _ => Change::default(),
    }
}

/// A change of image, strategy and version label in one write.
fn change(cx: &StepContext<'_>, original: &Original, direction: Direction) -> Change {
    let label = match direction {
        Direction::Forward => Some(cx.data.rollout.to.version.to_string()),
        Direction::Back => recorded_label(original),
    };
    let claims = |component: &milvus_guard_core::milvus::release::ComponentWorkload| {
        let volumes = component.workload.pod.volumes.iter();
        component.workload.meta.object.name == original.name
            && volumes.clone().any(|volume| {
                matches!(
                    volume.source,
                    milvus_guard_core::manifest::object::VolumeSource::Claim(_)
                )
            })
    };
    let holds_claim = cx.data.release.components.iter().any(claims);
    let labels = match cx.data.rollout.templates {
        Templates::FromRun => vec![(VERSION_LABEL.into(), label)],
        // The chart sets the label.
        Templates::FromHelm => Vec::new(),
    };
    Change {
        images: images(cx, original, direction),
        strategy: strategy(original, cx.data.standby, holds_claim),
        labels,
        ..brought(cx, direction)
    }
}

fn recorded_label(original: &Original) -> Option<String> {
    let path = version_label_path();
    let field = original.fields.iter().find(|field| field.path == path)?;
    field.value.as_ref()?.as_str().map(str::to_owned)
}

/// Restores everything but the image to what the chart sets.
async fn settle(
    cx: &StepContext<'_>,
    originals: &[Original],
    watched: &[Watched],
) -> Result<(), StepError> {
    let scaled = temporary::put_back(cx, originals).await?;
    deletion_cost::restore(cx).await?;
    if scaled {
        let wait = originals::wait_for(cx, watched, Wanted::Complete, cx.data.settings.hopeless);
        release::during(cx, watched, wait).await?;
    }
    Ok(())
}

/// Reports how long the component took, and how long the pause before it was.
fn tell_pace(cx: &StepContext<'_>, one: &Move, ready: std::time::Instant) {
    let Some((all, between)) = cx.data.pace.ready(ready) else {
        return;
    };
    let between = between.map_or_else(String::new, |between| {
        format!(", started {} after the one before was ready", took(between))
    });
    cx.reporter().note(format!(
        "{} was replaced in {}{between}",
        one.component,
        took(all)
    ));
}
