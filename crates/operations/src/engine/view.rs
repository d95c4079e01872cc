//! The state of a run, for people and programs. Pure: the input is what was read, the output is
//! text or JSON.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use milvus_guard_core::{
    api::{RunKind, RunPhase, StepAction, StepStage, UpgradeRun},
    milvus::Component,
    text::plain,
};

/// Version of the JSON format.
pub const SCHEMA_VERSION: &str = "guard.milvus.io/run-status/v1";

/// The state of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// [`SCHEMA_VERSION`].
    pub schema_version: &'static str,
    /// `namespace/name` of the run.
    pub run: String,
    /// Name of the release.
    pub release: String,
    /// Its namespace.
    pub namespace: String,
    /// `migration`, `rolling` or `hold`.
    pub kind: &'static str,
    /// Version before the run.
    pub from: String,
    /// Version after the run.
    pub to: String,
    /// Phase, as the `UpgradeRun` has it.
    pub phase: &'static str,
    /// Position in its plan.
    pub step: Option<StepView>,
    /// Who works on it; `None` if the lock is free.
    pub holder: Option<HolderView>,
    /// When its status was last written.
    pub updated_at: Option<Timestamp>,
    /// Where the saved metadata is.
    pub backup: Option<String>,
    /// The state of the data and the next command, if the run has recorded them.
    pub message: Option<String>,
    /// The running workloads of the release; empty if they could not be read.
    pub components: Vec<ComponentView>,
}

/// The position of a run in its plan.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// Id of the step.
    pub id: String,
    /// What the step does.
    pub title: String,
    /// Component that it is about; `None` means the whole release.
    pub component: Option<Component>,
    /// Workload that it is about, if a component has several.
    pub workload: Option<String>,
    /// Position of the step in the plan, from 1.
    pub number: u32,
    /// Number of steps in the plan.
    pub of: usize,
    /// Whether it is done.
    pub done: bool,
    /// Whether it is being undone.
    pub back: bool,
    /// How often it was begun.
    pub attempts: u32,
    /// When it began.
    pub since: Timestamp,
    /// What it waits for.
    pub waiting_for: Option<String>,
}

impl StepView {
    /// Whether the step is about this workload.
    #[must_use]
    pub fn is_about(&self, one: &ComponentView) -> bool {
        self.component == Some(one.component)
            && self
                .workload
                .as_ref()
                .is_none_or(|workload| *workload == one.workload)
    }

    /// The state of the step, as the word before its number.
    #[must_use]
    pub const fn doing(&self) -> &'static str {
        match (self.back, self.done) {
            (false, false) => "at",
            (false, true) => "after",
            (true, false) => "undoing",
            (true, true) => "has undone",
        }
    }
}

/// Who works on a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderView {
    /// Identity of the holder.
    pub identity: String,
    /// When it took the lock.
    pub since: Option<Timestamp>,
    /// When it last renewed the lock, by its own clock.
    pub renewed_at: Option<Timestamp>,
}

/// One component of the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentView {
    /// The component.
    pub component: Component,
    /// Name of the workload.
    pub workload: String,
    /// Image of the workload.
    pub image: String,
    /// Wanted pods.
    pub wanted: i64,
    /// Pods of the current template.
    pub updated: i64,
    /// Pods of an older template.
    pub old: i64,
    /// Ready pods. A Service routes to them also before they have been ready for `minReadySeconds`.
    pub ready: i64,
    /// Pods that Kubernetes counts as available: ready for `minReadySeconds`.
    pub available: i64,
    /// Whether the plan of the run removes it.
    pub leaves: bool,
}

impl RunView {
    /// Builds the view of a run and the holder of its lock.
    #[must_use]
    pub fn of(
        run: &UpgradeRun,
        holder: Option<HolderView>,
        mut components: Vec<ComponentView>,
    ) -> Self {
        let (spec, status) = (&run.spec, &run.status);
        for one in &mut components {
            one.leaves = spec.kind == RunKind::Rolling
                && spec.plan.iter().any(|step| {
                    step.action == StepAction::Stop && step.component == Some(one.component)
                });
        }
        let step = status.step.as_ref().map(|cursor| {
            let planned = spec.plan.iter().find(|step| step.id == cursor.id);
            StepView {
                id: cursor.id.clone(),
                title: planned.map_or_else(|| cursor.id.clone(), |step| step.title.clone()),
                component: planned.and_then(|step| step.component),
                workload: planned.and_then(|step| step.workload.clone()),
                number: cursor.index.saturating_add(1),
                of: spec.plan.len(),
                done: cursor.stage == StepStage::Done,
                back: status.phase == RunPhase::RollingBack,
                attempts: cursor.attempts,
                since: cursor.since,
                waiting_for: cursor.waiting_for.clone(),
            }
        });
        Self {
            schema_version: SCHEMA_VERSION,
            run: run.full_name(),
            release: spec.release.clone(),
            namespace: spec.namespace.clone(),
            kind: match spec.kind {
                RunKind::Migration => "migration",
                RunKind::Hold => "hold",
                RunKind::Rolling | RunKind::Other => "rolling",
            },
            from: spec.from.to_string(),
            to: spec.to.to_string(),
            phase: status.phase.name(),
            step,
            holder,
            updated_at: status.updated_at,
            backup: status.backup.as_ref().map(|backup| backup.location.clone()),
            message: status.message.clone(),
            components,
        }
    }

    /// Which run it is, how far it is, and who holds its lock: one line each.
    #[must_use]
    pub fn heading(&self, now: Timestamp) -> Vec<String> {
        let mut lines = vec![
            format!(
                "run        {} ({} of {} in namespace {}, {} to {})",
                self.run, self.kind, self.release, self.namespace, self.from, self.to
            ),
            format!("phase      {}", self.phase),
        ];
        if let Some(step) = &self.step {
            let attempts = if step.attempts > 1 {
                format!(", attempt {}", step.attempts)
            } else {
                String::new()
            };
            let since = ago(now, step.since);
            lines.push(format!(
                "step       {} {} of {}: {} (since {since}{attempts})",
                step.doing(),
                step.number,
                step.of,
                plain(&step.title)
            ));
            if let Some(on) = &step.waiting_for {
                lines.push(format!("waits for  {}", plain(on)));
            }
        }
        lines.push(match &self.holder {
            Some(holder) => {
                let since = holder
                    .since
                    .map_or_else(String::new, |since| format!(", since {}", ago(now, since)));
                let alive = holder.renewed_at.map_or_else(String::new, |at| {
                    format!(", last renewed {} ago", ago(now, at))
                });
                format!("lock       {}{since}{alive}", plain(&holder.identity))
            }
            None => "lock       free".to_owned(),
        });
        lines
    }

    /// The view as text.
    #[must_use]
    pub fn text(&self, now: Timestamp) -> String {
        let mut lines = self.heading(now);
        if let Some(backup) = &self.backup {
            lines.push(format!("backup     {}", plain(backup)));
        }
        lines.extend(under("runs", table(&self.components)));
        if let Some(message) = &self.message {
            lines.extend(under(
                "says",
                message
                    .lines()
                    .filter(|line| !line.trim().is_empty())
                    .map(plain)
                    .collect(),
            ));
        }
        lines.join("\n") + "\n"
    }
}

/// Lines under one title.
fn under(title: &str, lines: Vec<String>) -> impl Iterator<Item = String> {
    lines
        .into_iter()
        .enumerate()
        .map(move |(at, line)| format!("{:<11}{line}", if at == 0 { title } else { "" }))
}

/// The components as a table.
fn table(components: &[ComponentView]) -> Vec<String> {
    let names: Vec<(String, String)> = components
        .iter()
        .map(|component| (plain(&component.workload), plain(&component.image)))
        .collect();
    let workloads = names
        .iter()
        .map(|(workload, _)| workload.chars().count())
        .max()
        .unwrap_or(0);
    let images = names
        .iter()
        .map(|(_, image)| image.chars().count())
        .max()
        .unwrap_or(0);
    let rows = names
        .iter()
        .zip(components)
        .map(|((workload, image), one)| {
            let ComponentView {
                updated,
                old,
                available,
                wanted,
                ..
            } = one;
            format!(
                "{workload:<workloads$}  {image:<images$}  {updated} with this image, {old} with \
                 another, {available} of {wanted} available"
            )
        });
    rows.collect()
}

/// How long ago something was, for people.
fn ago(now: Timestamp, then: Timestamp) -> String {
    lasted(now.duration_since(then))
}

/// A duration for people; a negative one, from clocks that differ, counts as zero.
pub(super) fn lasted(time: SignedDuration) -> String {
    let seconds = time.max(SignedDuration::ZERO).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_waiting_run_shows_what_it_waits_for_and_who_holds_it() {
        let run = json!({
            "apiVersion": "guard.milvus.io/v1alpha1", "kind": "UpgradeRun", "metadata": {"name": "run-1", "namespace": "milvus"},
            "spec": {"kind": "Migration", "release": "r", "namespace": "milvus", "from": "2.1.4", "to": "2.2.16", "planHash": "h",
                "plan": [{"id": "check", "title": "Check", "action": "Check"}, {"id": "stop", "title": "Stop all", "action": "Stop"}]},
            "status": {"phase": "Running", "step": {"id": "stop", "index": 1, "stage": "Begun", "attempts": 2,
                "since": "2026-01-31T10:00:00Z", "waitingFor": "proxy: 1 pod is left"}},
        });
        let run: UpgradeRun = serde_json::from_value(run).unwrap();
        let now = "2026-01-31T10:01:05Z".parse().unwrap();
        let holder = HolderView {
            identity: "pod-1".into(),
            since: Some("2026-01-31T09:59:00Z".parse().unwrap()),
            renewed_at: Some("2026-01-31T10:01:02Z".parse().unwrap()),
        };
        let proxy = ComponentView {
            component: Component::Proxy,
            leaves: false,
            workload: "proxy".into(),
            image: "milvus:v2.1.4".into(),
            wanted: 0,
            updated: 0,
            old: 1,
            ready: 1,
            available: 1,
        };
        let expected = "\
run        milvus/run-1 (migration of r in namespace milvus, 2.1.4 to 2.2.16)
phase      Running
step       at 2 of 2: Stop all (since 1 min 5 s, attempt 2)
waits for  proxy: 1 pod is left
lock       pod-1, since 2 min 5 s, last renewed 3 s ago
runs       proxy   milvus:v2.1.4  0 with this image, 1 with another, 1 of 0 available
           worker  milvus:v2      1 with this image, 0 with another, 1 of 1 available
";
        let worker = ComponentView {
            component: Component::QueryNode,
            leaves: false,
            workload: "worker".into(),
            image: "milvus:v2".into(),
            wanted: 1,
            updated: 1,
            old: 0,
            ready: 1,
            available: 1,
        };
        assert_eq!(
            RunView::of(&run, Some(holder), vec![proxy, worker]).text(now),
            expected
        );
        let mut said = RunView::of(&run, None, Vec::new());
        said.message = Some("It is done.\n\nNext:\n  helm upgrade".into());
        let text = said.text(now);
        assert!(text.contains("lock       free"), "{text}");
        assert!(
            text.ends_with("says       It is done.\n           Next:\n             helm upgrade\n"),
            "{text}"
        );
    }
}
