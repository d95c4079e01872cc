//! What a rule declares that it needs, and whether a change holds it: whether the rule applies, and
//! whether it can look.

use std::{borrow::Cow, cell::OnceCell, fmt, sync::Arc};

use serde::{Serialize, Serializer};

use crate::{
    change::Upgrade,
    manifest::object::{Container, Files, SourceRef, ValueFrom, Volume, VolumeSource, Workload},
    milvus::{
        Build, Release, Topology,
        dependency::Family,
        release::{ComponentWorkload, VersionRead},
    },
};

use super::{Missing, Rule};

/// What a rule needs before it can judge. Some needs decide whether the rule applies, others
/// whether it can be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// What is wanted. Always there.
    After,
    /// The running state, because the rule judges a change. Not applicable to a new installation
    /// and to `audit`.
    Before,
    /// The running state; the rule judges it as it is, in `audit` too. Not applicable to a new
    /// installation.
    Running,
    /// A version that can be read in what is wanted.
    Version,
    /// A change of the version of some component, with both versions readable.
    VersionChange,
    /// More than a standalone, in what is wanted.
    Distributed,
    /// A chart version in the labels of what is wanted.
    Chart,
    /// A workload of this dependency in the release, in the running state or, without it, in what
    /// is wanted.
    Dependency(Family),
    /// Any dependency in the release, on either side.
    Dependencies,
    /// The effective configuration on both sides.
    Config,
    /// What the user set in Helm values. The rule itself says where it needs them.
    Values,
    /// The format of the metadata, or evidence of a migration. The rule itself says where it needs
    /// it.
    Metadata,
    /// Rollout state.
    Rollouts,
    /// Runs in progress.
    Runs,
    /// Kubernetes' version.
    Kubernetes,
    /// Helm's version.
    Helm,
    /// Autoscalers.
    Autoscalers,
    /// Argo CD and Flux objects.
    Deployers,
    /// Drift from the last Helm revision.
    Drift,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::After => "after",
            Self::Before => "before",
            Self::Running => "running",
            Self::Version => "version",
            Self::VersionChange => "version-change",
            Self::Distributed => "distributed",
            Self::Chart => "chart",
            Self::Dependency(family) => return write!(f, "dependency {family}"),
            Self::Dependencies => "dependencies",
            Self::Config => "config",
            Self::Values => "values",
            Self::Metadata => "metadata",
            Self::Rollouts => "rollouts",
            Self::Runs => "runs",
            Self::Kubernetes => "kubernetes",
            Self::Helm => "helm",
            Self::Autoscalers => "autoscalers",
            Self::Deployers => "deployers",
            Self::Drift => "drift",
        };
        f.write_str(name)
    }
}

impl Serialize for Need {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a need is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// It is.
    Yes,
    /// It is, but what the rule looks at is not complete: the rule may find something, yet it
    /// cannot pass.
    Partly(Missing),
    /// The rule has nothing to check; the reason as text.
    NotApplicable(Cow<'static, str>),
    /// The rule applies, but a fact is missing.
    No(Missing),
}

const DECLARE: &str = "Use a tag that names a release, or set the annotation guard.milvus.io/declared-version: \"VERSION for IMAGE\" on the workload.";
const ROLLOUTS: Missing = Missing::fact(
    "the rollout status of the running components is unknown",
    "Use --before live with permission to read Deployments and StatefulSets, or files of kubectl get -o yaml with their status, or --facts FILE with the key rollouts.",
);
const RUNS: Missing = Missing::momentary(
    "it is unknown whether a milvus-guard run is in progress",
    "Use --before live with permission to read UpgradeRuns, or --facts FILE with the key runs.",
);
const KUBERNETES: Missing = Missing::fact(
    "the Kubernetes version is unknown",
    "Use --before live with permission to read the version of the cluster, or --facts FILE with the key kubernetes.",
);
const HELM: Missing = Missing::fact(
    "the Helm version is unknown",
    "Use --facts FILE with the key helm (helm version --short).",
);
const AUTOSCALERS: Missing = Missing::fact(
    "the autoscalers are unknown",
    "Use --before live with permission to read HorizontalPodAutoscalers, or --facts FILE with the key autoscalers.",
);
const DEPLOYERS: Missing = Missing::fact(
    "it is unknown whether Argo CD or Flux applies the release",
    "Use --before live with permission to read the Applications of Argo CD and the HelmReleases of Flux, or --facts FILE with the key deployers.",
);
const DRIFT: Missing = Missing::fact(
    "the last Helm revision is unknown",
    "Use --before live with permission to read Helm's Secrets, or --facts FILE with the key drift.",
);
const WHOLE: &str = "Give all manifests with their ConfigMaps (helm template, helm get manifest, kubectl get -o yaml), or judge the release in the cluster (milvus-guard check -i NAME -t VERSION, milvus-guard audit -i NAME).";

/// One change, with what several rules ask of it answered once.
#[derive(Debug)]
pub(super) struct ChangeAnswers<'u, 'a> {
    upgrade: &'u Upgrade<'a>,
    version_change: OnceCell<Met>,
    changes: OnceCell<bool>,
}

impl<'u, 'a> ChangeAnswers<'u, 'a> {
    pub(super) const fn new(upgrade: &'u Upgrade<'a>) -> Self {
        Self {
            upgrade,
            version_change: OnceCell::new(),
            changes: OnceCell::new(),
        }
    }

    /// Whether the version or the configuration changes, or may change. A data rule that could not
    /// look is then a warning.
    pub(super) fn changes(&self) -> bool {
        *self.changes.get_or_init(|| changes(self.upgrade))
    }

    /// What the needs of a rule come to: not applicable before not evaluated, because nothing has
    /// to be provided for a check that does not apply.
    pub(super) fn of(&self, rule: &Rule) -> Met {
        let mut worst = Met::Yes;
        for need in rule.needs {
            match (self.met(*need), &worst) {
                (reason @ Met::NotApplicable(_), _) => return reason,
                (missing @ Met::No(_), Met::Yes | Met::Partly(_))
                | (missing @ Met::Partly(_), Met::Yes) => worst = missing,
                _ => {}
            }
        }
        worst
    }

    fn met(&self, need: Need) -> Met {
        let (upgrade, facts) = (self.upgrade, self.upgrade.facts);
        let known = |known: bool, missing: Missing| if known { Met::Yes } else { Met::No(missing) };
        let applies = |applies: bool, reason: &'static str| {
            if applies {
                Met::Yes
            } else {
                Met::NotApplicable(reason.into())
            }
        };
        match need {
            Need::After | Need::Values | Need::Metadata => Met::Yes,
            Need::Before if upgrade.is_state => {
                Met::NotApplicable("only for changes; audit checks the running release".into())
            }
            Need::Before | Need::Running => {
                applies(upgrade.before.is_some(), "this is a new installation")
            }
            Need::Version => match unreadable(upgrade.after.components.iter()) {
                None => applies(upgrade.to().is_some(), "the release has no Milvus workload"),
                Some(image) if upgrade.to().is_none() => Met::No(no_version(&image, "")),
                Some(image) => Met::Partly(no_version(&image, "")),
            },
            Need::VersionChange => self
                .version_change
                .get_or_init(|| version_change(upgrade))
                .clone(),
            Need::Distributed => applies(
                upgrade.after.topology() == Topology::Cluster,
                "Milvus is a standalone, which has one component",
            ),
            Need::Chart => applies(
                upgrade.after.chart.is_some(),
                "the workloads do not name a Helm chart (label helm.sh/chart)",
            ),
            Need::Dependency(family) => {
                let release = upgrade.before.unwrap_or(upgrade.after);
                if release.dependencies_of(family).next().is_some() {
                    Met::Yes
                } else {
                    Met::NotApplicable(format!("the release contains no {family}").into())
                }
            }
            Need::Dependencies => {
                let any = |release: &Release| !release.dependencies.is_empty();
                applies(
                    any(upgrade.after) || upgrade.before.is_some_and(any),
                    "the release contains no etcd, object storage or message queue",
                )
            }
            Need::Config => match (
                upgrade.before.is_none_or(Release::is_config_known),
                upgrade.after.is_config_known(),
            ) {
                (true, true) => Met::Yes,
                (false, true) => Met::No(Missing::fact(
                    "the current configuration (ConfigMap) is unknown",
                    WHOLE,
                )),
                (true, false) => Met::No(Missing::fact(
                    "the desired configuration (ConfigMap) is unknown",
                    WHOLE,
                )),
                (false, false) => Met::No(Missing::fact(
                    "the configuration (ConfigMap) is unknown before and after the change",
                    WHOLE,
                )),
            },
            Need::Rollouts => known(facts.rollouts.is_some(), ROLLOUTS),
            Need::Runs => known(facts.runs.is_some(), RUNS),
            Need::Kubernetes => known(facts.kubernetes.is_some(), KUBERNETES),
            Need::Helm => known(facts.helm.is_some(), HELM),
            Need::Autoscalers => known(facts.autoscalers.is_some(), AUTOSCALERS),
            Need::Deployers => known(facts.deployers.is_some(), DEPLOYERS),
            Need::Drift if !is_of_helm(upgrade) => {
                Met::NotApplicable("Helm does not manage the release".into())
            }
            Need::Drift => known(facts.drift.is_some(), DRIFT),
        }
    }
}

/// Whether the release that runs comes from a chart, or a fact compares it with a revision of Helm.
fn is_of_helm(upgrade: &Upgrade<'_>) -> bool {
    upgrade.before.is_none_or(|before| {
        let compared = || {
            upgrade
                .facts
                .drift
                .iter()
                .flatten()
                .any(|drift| drift.release == before.name)
        };
        before.chart.is_some() || before.manager.is_chart() || before.helm.is_some() || compared()
    })
}

fn no_version(image: &str, where_it_is: &str) -> Missing {
    Missing::new(
        format!("the version of {image}{where_it_is} cannot be read"),
        DECLARE,
    )
}

/// The first image whose version cannot be read.
fn unreadable<'c>(mut components: impl Iterator<Item = &'c ComponentWorkload>) -> Option<String> {
    components
        .find(|component| component.version() == VersionRead::Unknown)
        .map(|component| component.image().to_string())
}

fn version_change(upgrade: &Upgrade<'_>) -> Met {
    let Some(before) = upgrade.before else {
        return Met::Yes;
    };
    let images_change = upgrade
        .changed_pairs()
        .any(|(old, new)| old.image() != new.image() || old.version() != new.version());
    let unreadable_before = || {
        unreadable(before.components.iter()).map(|image| {
            no_version(
                &image,
                ", the running \
            image,",
            )
        })
    };
    let unreadable_after =
        || unreadable(upgrade.after.components.iter()).map(|image| no_version(&image, ""));
    // A component that comes may have a version that nothing had.
    let is_new = |build: &Build| !upgrade.builds_before().contains(build);
    let moves = !upgrade.moved().is_empty() || upgrade.builds_after().iter().any(is_new);
    match (upgrade.from(), upgrade.to()) {
        (Some(from), Some(to)) if from == to && !moves && !images_change => {
            Met::NotApplicable(format!("the version stays {from}").into())
        }
        (Some(from), Some(to)) => {
            let missing = if images_change {
                unreadable_before().or_else(unreadable_after)
            } else {
                None
            };
            match missing {
                Some(missing) => Met::Partly(missing),
                None if from == to && !moves => {
                    Met::NotApplicable(format!("the version stays {from}").into())
                }
                None => Met::Yes,
            }
        }
        _ if !images_change => Met::NotApplicable("no image changes".into()),
        // A rule may compare with the last version that was known.
        (None, Some(_)) if upgrade.last_available().is_some() => unreadable_before()
            .or_else(unreadable_after)
            .map_or(Met::Yes, Met::Partly),
        _ => unreadable_before()
            .or_else(unreadable_after)
            .map_or(Met::Yes, Met::No),
    }
}

/// Whether images, chart, components or configuration differ, or no one can say that they do not.
fn changes(upgrade: &Upgrade<'_>) -> bool {
    let Some((before, after)) = upgrade.both().filter(|_| !upgrade.is_state) else {
        return false;
    };
    let components = |release: &Release| {
        release
            .components
            .iter()
            .map(|component| component.component)
            .collect::<Vec<_>>()
    };
    components(before) != components(after)
        || before.chart != after.chart
        || pods_differ(upgrade, before, after)
        || before.has_config() != after.has_config()
        || settings(before) != settings(after)
}

/// Whether the pods of some component differ, or objects to which they refer do.
fn pods_differ(upgrade: &Upgrade<'_>, before: &Release, after: &Release) -> bool {
    let sides = Sides { before, after };
    let mut last = None;
    upgrade.pairs().any(|(old, new)| {
        // Several containers of one pod are components one after the other.
        let pair = (Arc::as_ptr(&old.workload), Arc::as_ptr(&new.workload));
        last.replace(pair) != Some(pair) && sides.differ(&old.workload, &new.workload)
    })
}

/// Two releases whose pods are compared, each with the objects to which they refer.
struct Sides<'a> {
    before: &'a Release,
    after: &'a Release,
}

impl Sides<'_> {
    /// Whether image, variables, arguments, mounts or configuration hash of a pod template differ,
    /// those of init containers too, because they may write what Milvus reads. Replicas, resources
    /// and similar ones are neither version nor configuration. Objects to which the pod refers
    /// are compared by their content.
    fn differ(&self, old: &Workload, new: &Workload) -> bool {
        let (old, new) = (&old.pod, &new.pod);
        let are_same = |old: &[Container], new: &[Container]| {
            old.len() == new.len()
                && old
                    .iter()
                    .zip(new)
                    .all(|(old, new)| self.is_same_container(old, new))
        };
        let volumes = old.volumes.len() == new.volumes.len()
            && old
                .volumes
                .iter()
                .zip(&new.volumes)
                .all(|(old, new)| self.is_same_volume(old, new));
        !are_same(&old.containers, &new.containers)
            || !are_same(&old.init_containers, &new.init_containers)
            || !volumes
            || old.annotations != new.annotations
    }

    fn is_same_container(&self, old: &Container, new: &Container) -> bool {
        old.image == new.image
            && old.command == new.command
            && old.mounts == new.mounts
            && old.env.is_same_as(&new.env, |old, new| match (old, new) {
                (ValueFrom::Key(old, key), ValueFrom::Key(new, new_key)) => self
                    .before
                    .config
                    .is_same_key((old, key), &self.after.config, (new, new_key)),
                (old, new) => old == new,
            })
            && old.env_from.len() == new.env_from.len()
            && old.env_from.iter().zip(&new.env_from).all(|(old, new)| {
                old.prefix == new.prefix && self.is_same_object(&old.source, &new.source)
            })
    }

    fn is_same_volume(&self, old: &Volume, new: &Volume) -> bool {
        match (&old.source, &new.source) {
            (VolumeSource::Files(one), VolumeSource::Files(other)) => {
                old.name == new.name
                    && one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|(old, new)| self.are_same_files(old, new))
            }
            _ => old == new,
        }
    }

    fn are_same_files(&self, old: &Files, new: &Files) -> bool {
        old.items == new.items
            && if old.items.is_empty() {
                self.is_same_object(&old.source, &new.source)
            } else {
                let (before, after) = (&self.before.config, &self.after.config);
                old.items.iter().all(|(key, _)| {
                    before.is_same_key((&old.source, key), after, (&new.source, key))
                })
            }
    }

    fn is_same_object(&self, old: &SourceRef, new: &SourceRef) -> bool {
        self.before
            .config
            .is_same_object(old, &self.after.config, new)
    }
}

fn settings(release: &Release) -> Vec<(&str, &str)> {
    release
        .config
        .settings()
        .iter()
        .map(|setting| (setting.key, setting.value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The advice is also printed if the state was read live: it then says what was not permitted.
    #[test]
    fn the_advice_to_read_the_cluster_names_the_permission() {
        let all = [ROLLOUTS, RUNS, KUBERNETES, AUTOSCALERS, DEPLOYERS, DRIFT];
        for missing in all {
            let advice = missing.provide();
            assert!(
                advice.starts_with("Use --before live with permission to read "),
                "{advice}"
            );
        }
    }
}
