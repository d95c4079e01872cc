//! The release gate: Helm stores a new revision before it touches anything, so a denial here leaves
//! nothing half-done.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use crate::{
    api::{
        AcceptedBy, AcceptedRule, DecisionSpec, DecisionVerdict, HelmDriver, decision::LIFETIME,
    },
    error_text,
    evaluate::{EvaluationInput, JudgedFinding, JudgedRelease, Verdict, judge, judge_removals},
    evidence::Facts,
    helm::{
        codec::{self, CodecError, RecordKind, SECRET_TYPE, StoredRelease},
        order_hooks,
    },
    manifest::{
        Budget, Object,
        object::{Claim, ConfigMap},
    },
    milvus::{Release, Snapshot, Version, snapshot::Builder},
    policy::{Action, PolicySet, resolve::Applied},
    text::count,
};

use super::{
    acceptance::{self, ACCEPT},
    decision::{self, HELM_RELEASE},
    gate::Gate,
    review::Review,
    review_state::ReviewState,
    ruling::{AcceptanceHint, Outcome, Ruling},
};

/// What every chart with Milvus has in its manifest: the command `milvus run`, or an image of that
/// name. Everything else leaves before its YAML is read.
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
    claims: Vec<Claim>,
    /// Rules that the deployer accepts by the label of the revision.
    by_label: Vec<String>,
    /// Rules that the hooks of the revision see to.
    by_hooks: Vec<&'static str>,
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
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    release: Option<Cow<'a, str>>,
}

impl ReleaseTask {
    /// Unpacks a pending revision; `None` if it is not one, or holds no Milvus.
    ///
    /// # Errors
    /// If the record cannot be read, or does not agree with its own payload.
    pub(super) fn of(
        review: &Review<'_>,
        budget: &Budget<'_>,
    ) -> Result<Option<Self>, RecordError> {
        let Some(raw) = review.object else {
            return Ok(None);
        };
        let Ok(record) = serde_json::from_str::<Record<'_>>(raw.get()) else {
            return Ok(None);
        };
        let label = |key: &str| record.metadata.labels.get(key).map(|value| &**value);
        let is_rollback = match label("status") {
            Some("pending-install" | "pending-upgrade") => false,
            Some("pending-rollback") => true,
            _ => return Ok(None),
        };
        if label("owner") != Some("helm") {
            return Ok(None);
        }
        let kind = if review.resource.resource == "secrets" {
            RecordKind::Secret
        } else {
            RecordKind::ConfigMap
        };
        if kind == RecordKind::Secret && record.kind != SECRET_TYPE {
            return Ok(None);
        }
        let payload = record.data.release.as_deref().unwrap_or_default();
        let stored = codec::decode_record(kind, payload, budget)?;
        if !may_hold_milvus(&stored.manifest)
            && !stored.hooks.iter().any(|hook| may_hold_milvus(hook))
        {
            return Ok(None);
        }
        agree(&stored, &record.metadata, review)?;
        let driver = match kind {
            RecordKind::Secret => HelmDriver::Secret,
            RecordKind::ConfigMap => HelmDriver::ConfigMap,
        };
        Self::unpack(&stored, review, driver, is_rollback, label(ACCEPT), budget)
    }

    fn unpack(
        stored: &StoredRelease,
        review: &Review<'_>,
        driver: HelmDriver,
        is_rollback: bool,
        accept: Option<&str>,
        budget: &Budget<'_>,
    ) -> Result<Option<Self>, RecordError> {
        let namespace = review.namespace.to_string();
        let (mut builder, mut configs) = (Builder::default(), Vec::new());
        let (mut claims, mut hooks) = (Vec::new(), Vec::new());
        for object in stored.objects(Some(&namespace), budget) {
            let object = object.map_err(|error| RecordError::Unreadable(error.to_string()))?;
            match &object {
                Object::Config(config) => configs.push(config.clone()),
                Object::Claim(claim) => claims.push(claim.clone()),
                _ => {}
            }
            hooks.extend(order_hooks::as_hook(&object));
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
        let by_label = accept
            .map(|value| acceptance::from_label(value, stored.revision))
            .unwrap_or_default();
        let by_hooks = if order_hooks::order(&hooks, &stored.name) {
            acceptance::by_order_hooks().collect()
        } else {
            Vec::new()
        };
        Ok(Some(Self {
            namespace,
            release: stored.name.clone(),
            revision: stored.revision,
            is_rollback,
            after,
            configs,
            claims,
            by_label,
            by_hooks,
            driver,
        }))
    }

    /// Judges the whole release against everything that runs and that it names or whose data it
    /// would use.
    #[must_use]
    pub fn judge(&self, state: &ReviewState<'_>) -> Ruling {
        let running = &state.place.snapshot.releases;
        let (owned, others): (Vec<Release>, Vec<Release>) = running
            .iter()
            .cloned()
            .partition(|release| self.owns(release));
        let mut before = owned;
        let runs = !before.is_empty();
        if !runs {
            before.extend(
                state
                    .remembered
                    .iter()
                    .filter(|release| self.owns(release))
                    .cloned(),
            );
        }
        let before = (!before.is_empty()).then(|| Snapshot {
            releases: before,
            ..Snapshot::default()
        });
        if let Some(denied) = state.unknown_past(before.as_ref()) {
            return Ruling {
                by_state: true,
                ..Ruling::of(denied)
            };
        }
        // What the manifest refers to and does not hold stays in the cluster.
        let mut after = self.after.clone();
        after.resolve(&self.configs, &state.place.configs);
        let accepted = self.accepted();
        let is_rollback = self.is_rollback && !goes_forward(before.as_ref(), &after, &state.facts);
        let question = EvaluationInput {
            is_rollback,
            accepted: &accepted,
            ..state.question(&after)
        };
        let question = EvaluationInput {
            before: before.as_ref(),
            ..question
        };
        let mut judgement = judge(&question);
        if runs {
            let removals = judge_removals(&question, &self.claims);
            judgement.releases.extend(removals);
        }
        judgement
            .releases
            .extend(compared(state, &question, &others));
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
                        let bars = !is_rollback || judged.finding.rule.data_loss;
                        Some((
                            judged,
                            if bars {
                                action
                            } else {
                                action.min(Action::Warn)
                            },
                        ))
                    })
                    .collect();
                (release, findings)
            })
            .collect();
        let way = AcceptanceHint::Helm {
            revision: self.revision,
        };
        let mut ruling = Outcome {
            gate: Gate::Release,
            releases: &releases,
            policies: &state.policies,
            way,
        }
        .ruling();
        ruling.release = Some((self.namespace.clone(), self.release.clone()));
        if ruling.response.denied.is_some() {
            ruling.by_state = true;
        } else {
            let findings = judgement
                .releases
                .iter()
                .flat_map(|release| &release.findings);
            let mut accepted_rules: Vec<AcceptedRule> = findings
                .filter_map(|judged| self.accepted_rule(judged, &state.policies))
                .collect();
            accepted_rules.dedup();
            let (objects, left_out) = decision::bounded(decision::judged(
                &self.after.releases,
                &self.configs,
                &state.place,
            ));
            if left_out > 0 {
                ruling.response.warnings.push(format!(
                    "milvus-guard: the decision for this release covers {}; {left_out} more will \
                     be checked one by one",
                    count(objects.len(), "object")
                ));
            }
            ruling.decision = Some(DecisionSpec {
                namespace: self.namespace.clone(),
                release: self.release.clone(),
                revision: i64::try_from(self.revision).unwrap_or(i64::MAX),
                driver: self.driver,
                verdict: match ruling.verdict {
                    Some(Verdict::Warn) => DecisionVerdict::Warn,
                    _ => DecisionVerdict::Allow,
                },
                expires: state.now + LIFETIME,
                objects,
                accepted_rules,
            });
        }
        ruling
    }

    /// Rules that the deployer accepts, if policy allows it.
    fn accepted(&self) -> Vec<String> {
        let by_hooks = self.by_hooks.iter().map(|&rule| rule.to_owned());
        self.by_label.iter().cloned().chain(by_hooks).collect()
    }

    /// By what a finding was allowed, where it was.
    fn accepted_rule(&self, judged: &JudgedFinding, policies: &PolicySet) -> Option<AcceptedRule> {
        let (by, reference) = match &judged.applied {
            Applied::Accepted if !self.names_in_label(judged.finding.rule.id) => {
                (AcceptedBy::Hook, "pre-upgrade, post-upgrade".to_owned())
            }
            Applied::Accepted => (
                AcceptedBy::Label,
                format!("{}-r{}", self.by_label.join("_"), self.revision),
            ),
            Applied::Excepted { exception } => (
                AcceptedBy::Exception,
                policies.exceptions.get(*exception)?.metadata.name.clone(),
            ),
            Applied::Acts { .. } | Applied::Off { .. } => return None,
        };
        Some(AcceptedRule {
            rule: judged.finding.rule.id.to_owned(),
            by,
            reference,
        })
    }

    fn names_in_label(&self, rule: &str) -> bool {
        self.by_label.iter().any(|id| id.eq_ignore_ascii_case(rule))
    }

    /// Whether a Milvus belongs to this release: by Helm's own mark if there is one, else by its
    /// name.
    fn owns(&self, release: &Release) -> bool {
        let marks: Vec<&str> = release
            .components
            .iter()
            .filter_map(|component| component.workload.meta.annotation(HELM_RELEASE))
            .collect();
        if marks.is_empty() {
            release.name == self.release
        } else {
            marks.contains(&&*self.release)
        }
    }
}

/// What the change does to releases that it names objects of, or whose data it would use.
fn compared(
    state: &ReviewState<'_>,
    question: &EvaluationInput<'_>,
    running: &[Release],
) -> Vec<JudgedRelease> {
    let mut all = Vec::new();
    for release in &question.after.releases {
        let own = question
            .before
            .iter()
            .flat_map(|before| &before.releases)
            .find(|own| own.name == release.name);
        let alone = Snapshot {
            releases: vec![release.clone()],
            ..Snapshot::default()
        };
        let question = EvaluationInput {
            before: None,
            after: &alone,
            ..*question
        };
        let others = state.others(running, own, release);
        all.extend(others.iter().filter_map(|other| other.judge(&question)));
    }
    all
}

/// Whether Helm "rolls back" to a higher version although the running one is complete and
/// available: there is nothing to get out of, and this is an upgrade.
fn goes_forward(before: Option<&Snapshot>, after: &Snapshot, facts: &Facts) -> bool {
    let running = |wanted: &Release| {
        let mut all = before.into_iter().flat_map(|before| &before.releases);
        all.find(|one| one.name == wanted.name && one.app_name == wanted.app_name)
    };
    let is_settled = |release: &Release, version: Version| {
        facts.settled.iter().flatten().any(|fact| {
            fact.release == release.name
                && release
                    .namespace
                    .as_ref()
                    .is_none_or(|own| *own == fact.namespace)
                && fact.version == version
        })
    };
    after.releases.iter().any(|wanted| {
        let versions = running(wanted).and_then(|running| {
            let (lowest, highest) = (running.lowest()?.version, running.highest()?.version);
            let is_whole = lowest == highest && is_settled(running, highest);
            is_whole.then_some((highest, wanted.lowest()?.version))
        });
        versions.is_some_and(|(from, to)| to > from)
    })
}

/// Whether a manifest may have Milvus in it. An escaped letter (`\\x6d`, `\\u006d`) or an escaped
/// line break could hide the word.
fn may_hold_milvus(text: &str) -> bool {
    let has_escape = || {
        memchr::memchr_iter(b'\\', text.as_bytes()).any(|at| {
            matches!(
                text.as_bytes().get(at + 1),
                Some(b'x' | b'u' | b'U' | b'\n' | b'\r')
            )
        })
    };
    text.contains(MARK) || has_escape()
}

/// Why a record of Helm is not judged.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// The budget is the one for small inputs, and this is a large one.
    #[error("it needs too much memory")]
    NeedsRoom,
    /// It cannot be read, so nothing is known of Milvus in it; the workload gate judges its
    /// objects.
    #[error("{0}")]
    Unreadable(String),
    /// It says two things about itself, as no Helm writes it.
    #[error(
        "the record {name} of this Helm release does not match its payload: {what} is {written} \
         in the record and {payload} in the payload. Helm does not write such a record"
    )]
    Disagrees {
        /// Name of the record.
        name: String,
        /// What differs.
        what: &'static str,
        /// What the object says.
        written: String,
        /// What the payload says.
        payload: String,
    },
}

impl From<CodecError> for RecordError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::NoRoom => Self::NeedsRoom,
            error => Self::Unreadable(error.to_string()),
        }
    }
}

/// Whether a record says the same outside and inside: its name, its namespace, its labels and its
/// payload.
fn agree(
    stored: &StoredRelease,
    metadata: &Metadata<'_>,
    review: &Review<'_>,
) -> Result<(), RecordError> {
    let label = |key: &str| {
        metadata
            .labels
            .get(key)
            .map_or("", |value| &**value)
            .to_owned()
    };
    let revision = stored.revision.to_string();
    let name = if metadata.name.is_empty() {
        &review.name
    } else {
        &metadata.name
    };
    let pairs = [
        (
            "the name",
            name.to_string(),
            codec::record_name(&stored.name, stored.revision),
        ),
        ("the label name", label("name"), stored.name.clone()),
        ("the label version", label("version"), revision),
        ("the label status", label("status"), stored.status.clone()),
        // Helm leaves the namespace out of a payload that was made without one.
        (
            "the namespace",
            review.namespace.to_string(),
            stored
                .namespace
                .clone()
                .unwrap_or_else(|| review.namespace.to_string()),
        ),
    ];
    let shown = |text: &str| error_text::line(text);
    pairs
        .into_iter()
        .find(|(_, written, payload)| written != payload)
        .map_or(Ok(()), |(what, written, payload)| {
            Err(RecordError::Disagrees {
                name: shown(name),
                what,
                written: shown(&written),
                payload: shown(&payload),
            })
        })
}
