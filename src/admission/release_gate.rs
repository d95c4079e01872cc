//! The release gate: Helm stores a new revision before it touches anything, so a denial here leaves nothing half-done.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use crate::{
    helm::codec::{self, RecordKind, SECRET_TYPE, StoredRelease},
    judge::{JudgedFinding, Question, Verdict, judge},
    manifest::{Object, object::ConfigMap},
    milvus::{Release, Snapshot, snapshot::Builder},
    objects::{AcceptedBy, AcceptedRule, DecisionSpec, DecisionVerdict, HelmDriver, decision::LIFETIME},
    policy::{Action, PolicySet, resolve::Applied},
};

use super::{
    acceptance::{self, ACCEPT},
    decision,
    review::Review,
    ruling::{Outcome, Ruling, Way},
    scene::Scene,
    task::Gate,
};

/// Annotation with Helm's name of the release that an object belongs to.
pub(super) const HELM_RELEASE: &str = "meta.helm.sh/release-name";

/// What every chart with Milvus has in its manifest: the command `milvus run`, or an image of that name. Everything else
/// leaves before its YAML is read.
const MARK: &str = "milvus";

/// One pending revision of a release with Milvus in it.
#[derive(Debug)]
pub struct ReleaseTask {
    /// Namespace of the release.
    pub namespace: String,
    /// Helm's name of it.
    pub release: String,
    /// Its revision.
    pub revision: u64,
    /// Whether Helm goes back to an earlier revision.
    pub is_rollback: bool,
    after: Snapshot,
    configs: Vec<Arc<ConfigMap>>,
    accepted: Vec<String>,
    driver: HelmDriver,
}

/// What is read of Helm's record.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    release: Option<Cow<'a, str>>,
}

impl ReleaseTask {
    /// Whether this may be one of Helm's records: every Secret (the API server asks about no others), and `ConfigMaps`
    /// that say so.
    pub(super) fn is_record(review: &Review<'_>) -> bool {
        review.resource.resource == "secrets" || review.object.is_some_and(|object| object.get().contains(r#""owner":"helm""#))
    }

    /// Unpacks a pending revision; nothing where it is none, or holds no Milvus.
    pub(super) fn of(review: &Review<'_>) -> Result<Option<Self>, String> {
        let Some(raw) = review.object else { return Ok(None) };
        let Ok(record) = serde_json::from_str::<Record<'_>>(raw.get()) else { return Ok(None) };
        let label = |key: &str| record.metadata.labels.get(key).map(|value| &**value);
        let is_rollback = match label("status") {
            Some("pending-install" | "pending-upgrade") => false,
            Some("pending-rollback") => true,
            _ => return Ok(None),
        };
        if label("owner") != Some("helm") {
            return Ok(None);
        }
        let kind = if review.resource.resource == "secrets" { RecordKind::Secret } else { RecordKind::ConfigMap };
        if kind == RecordKind::Secret && record.kind != SECRET_TYPE {
            return Ok(None);
        }
        let payload = record.data.release.as_deref().unwrap_or_default();
        let stored = codec::decode_record(kind, payload).map_err(|error| error.to_string())?;
        if !stored.manifest.contains(MARK) && !stored.hooks.iter().any(|hook| hook.contains(MARK)) {
            return Ok(None);
        }
        let driver = match kind {
            RecordKind::Secret => HelmDriver::Secret,
            RecordKind::ConfigMap => HelmDriver::ConfigMap,
        };
        Self::unpack(&stored, review, driver, is_rollback, label(ACCEPT))
    }

    fn unpack(
        stored: &StoredRelease,
        review: &Review<'_>,
        driver: HelmDriver,
        is_rollback: bool,
        accept: Option<&str>,
    ) -> Result<Option<Self>, String> {
        let namespace = stored.namespace.clone().unwrap_or_else(|| review.namespace.to_string());
        let (mut builder, mut configs) = (Builder::default(), Vec::new());
        for object in stored.objects(Some(&namespace)) {
            let object = object.map_err(|error| error.to_string())?;
            if let Object::Config(config) = &object {
                configs.push(config.clone());
            }
            builder.add(object);
        }
        builder.add_helm(&stored.name, Some(&namespace), stored.kept());
        if let Some(chart) = &stored.chart {
            builder.add_chart(&stored.name, Some(&namespace), chart);
        }
        let after = builder.build();
        if after.releases.is_empty() {
            return Ok(None);
        }
        let accepted = accept.map(|value| acceptance::from_label(value, stored.revision)).unwrap_or_default();
        Ok(Some(Self {
            namespace,
            release: stored.name.clone(),
            revision: stored.revision,
            is_rollback,
            after,
            configs,
            accepted,
            driver,
        }))
    }

    /// Judges the whole release against what runs of it.
    #[must_use]
    pub fn judge(&self, scene: &Scene<'_>) -> Ruling {
        let running = scene.place.snapshot.releases.iter().filter(|release| self.owns(release));
        let mut before: Vec<Release> = running.cloned().collect();
        if before.is_empty() {
            before.extend(scene.remembered.iter().filter(|release| self.owns(release)).cloned());
        }
        let before = (!before.is_empty()).then(|| Snapshot { releases: before, ..Snapshot::default() });
        // What the manifest refers to and does not hold stays in the cluster.
        let mut after = self.after.clone();
        after.resolve(&self.configs, &scene.place.configs);
        let judgement = judge(&Question {
            before: before.as_ref(),
            after: &after,
            facts: &scene.facts,
            catalogue: &scene.catalogue,
            policies: &scene.policies,
            is_rollback: self.is_rollback,
            deletes: None,
            accepted: &self.accepted,
            overdue: scene.overdue,
        });
        let releases: Vec<_> = judgement
            .releases
            .iter()
            .map(|release| {
                let findings = release
                    .findings
                    .iter()
                    .filter_map(|judged| {
                        let action = judged.action()?;
                        // A rollback is the way out; only data may bar it.
                        let bars = !self.is_rollback || judged.finding.rule.data_loss;
                        Some((judged, if bars { action } else { action.min(Action::Warn) }))
                    })
                    .collect();
                (release, findings)
            })
            .collect();
        let way = Way::Helm { revision: self.revision };
        let mut ruling = Outcome { gate: Gate::Release, releases: &releases, policies: &scene.policies, way }.ruling();
        ruling.release = Some((self.namespace.clone(), self.release.clone()));
        if ruling.response.denied.is_some() {
            ruling.by_state = true;
        } else {
            let findings = judgement.releases.iter().flat_map(|release| &release.findings);
            let mut accepted_rules: Vec<AcceptedRule> =
                findings.filter_map(|judged| self.accepted_rule(judged, &scene.policies)).collect();
            accepted_rules.dedup();
            ruling.decision = Some(DecisionSpec {
                namespace: self.namespace.clone(),
                release: self.release.clone(),
                revision: i64::try_from(self.revision).unwrap_or(i64::MAX),
                driver: self.driver,
                verdict: match ruling.verdict {
                    Some(Verdict::Warn) => DecisionVerdict::Warn,
                    _ => DecisionVerdict::Allow,
                },
                expires: scene.now + LIFETIME,
                objects: decision::digests(&self.after.releases, &self.configs),
                accepted_rules,
            });
        }
        ruling
    }

    /// By what a finding was let through, where it was.
    fn accepted_rule(&self, judged: &JudgedFinding, policies: &PolicySet) -> Option<AcceptedRule> {
        let (by, reference) = match &judged.applied {
            Applied::Accepted => (AcceptedBy::Label, format!("{}-r{}", self.accepted.join("_"), self.revision)),
            Applied::Excepted { exception } => {
                (AcceptedBy::Exception, policies.exceptions.get(*exception)?.metadata.name.clone())
            }
            Applied::Acts { .. } | Applied::Off { .. } => return None,
        };
        Some(AcceptedRule { rule: judged.finding.rule.id.to_owned(), by, reference })
    }

    /// Whether a running Milvus belongs to this release: by Helm's own mark where there is one, else by its name.
    fn owns(&self, release: &Release) -> bool {
        let marks: Vec<&str> =
            release.components.iter().filter_map(|component| component.workload.meta.annotation(HELM_RELEASE)).collect();
        if marks.is_empty() { release.name == self.release } else { marks.contains(&&*self.release) }
    }
}
