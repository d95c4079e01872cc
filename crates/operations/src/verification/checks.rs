//! Turns what was read into checks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::rolling_upgrade::active::{self, PodName};
use milvus_guard_core::{
    api::{UpgradeRun, loaded::Baseline},
    error_text,
    evidence::RolloutFact,
    milvus::{Component, Release, Version, release::ComponentWorkload},
    text::count,
    verification::{Check, Record},
};
use milvus_guard_metadata::model::sessions::{Holder, Session};
use milvus_guard_sources::{
    kubernetes::pods::is_pod_of,
    milvus::{Loaded, Principals},
};

/// The check of loaded collections.
pub(super) const COLLECTIONS: &str = "collections";
/// The check of users and roles.
pub(super) const PRIVILEGES: &str = "privileges";

/// Whether every workload is completely rolled out, nothing is held, and no old pod is left.
#[must_use]
pub fn workloads(release: &Release, rollouts: Option<&[RolloutFact]>, pods: &[Pod]) -> Check {
    const ID: &str = "workloads";
    let Some(rollouts) = rollouts else {
        return Check::unknown(ID, "the state of the workloads could not be read");
    };
    let mut found = Vec::new();
    for one in running(release) {
        let name = &one.workload.meta.object.name;
        if one.held_from().is_some() {
            found.push(format!("{name} is held: its pods run the version before"));
        }
        match rollouts.iter().find(|fact| fact.workload == *name) {
            Some(fact) if fact.complete => {}
            Some(fact) => found.push(format!("{name}: {}", fact.detail)),
            None => found.push(format!("{name}: its rollout state is not known")),
        }
        found.extend(leftovers(one, pods));
    }
    let all = running(release).count();
    if all == 0 {
        return Check::of(ID, &["no component runs: all have 0 replicas".into()], "");
    }
    Check::of(
        ID,
        &found,
        format!("{} rolled out completely", are(all, "workload")),
    )
}

/// Pods of a workload that terminate or run another image than its template.
fn leftovers(one: &ComponentWorkload, pods: &[Pod]) -> Vec<String> {
    let image = one.main().map_or("", |container| &container.image);
    let name = &one.workload.meta.object.name;
    let of = pods.iter().filter(|pod| is_of(pod, one));
    let said = |pod: &Pod| {
        let pod_name = pod.name_any();
        if pod.metadata.deletion_timestamp.is_some() {
            return Some(format!("pod {pod_name} of {name} is terminating"));
        }
        let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let own = containers.any(|container| container.image.as_deref() == Some(image));
        (!own).then(|| format!("pod {pod_name} of {name} does not run {image}"))
    };
    of.filter_map(said).collect()
}

fn is_of(pod: &Pod, one: &ComponentWorkload) -> bool {
    let wanted = &one.workload.pod.labels;
    let labels = pod.labels();
    let mut pairs = wanted.iter().peekable();
    pairs.peek().is_some()
        && pairs.all(|(key, value)| labels.get(key).map(String::as_str) == Some(value))
        && is_pod_of(pod, &one.workload.meta.object.name)
}

fn running(release: &Release) -> impl Iterator<Item = &ComponentWorkload> {
    release.components.iter().filter(|one| one.is_running())
}

/// `1 workload is`, `2 workloads are`.
fn are(number: usize, noun: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number, noun))
}

/// The version that every running component has; `None` if they differ or one is unknown.
#[must_use]
pub fn common_version(release: &Release) -> Option<String> {
    let mut versions: BTreeSet<Option<String>> = running(release)
        .map(|one| one.version().build().map(ToString::to_string))
        .collect();
    let only = versions.pop_first().flatten();
    only.filter(|_| versions.is_empty())
}

/// Whether all components run one version, the wanted one, and the servers report the same: the
/// proxy, and all that have a session.
#[must_use]
pub fn versions(
    release: &Release,
    wanted: Option<Version>,
    proxy: Option<&str>,
    sessions: Option<&[Session]>,
) -> Check {
    const ID: &str = "versions";
    let mut by_version: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut found = Vec::new();
    for one in running(release) {
        let name = &*one.workload.meta.object.name;
        match one.version().build() {
            Some(build) => {
                by_version.entry(build.to_string()).or_default().push(name);
                if let Some(wanted) = wanted
                    && build.version != wanted
                {
                    found.push(format!("{name} runs {build}, not {wanted}"));
                }
            }
            None => unknown.push(format!(
                "the version of {name} cannot be read from its image {}",
                one.image()
            )),
        }
    }
    if by_version.len() > 1 {
        let groups = by_version
            .iter()
            .map(|(version, names)| format!("{version} ({})", names.join(", ")));
        let groups: Vec<String> = groups.collect();
        found.push(format!("the components run {}", groups.join(" and ")));
    }
    let only = by_version
        .first_key_value()
        .filter(|_| by_version.len() == 1);
    let only = only.and_then(|(version, _)| spoken(version));
    let mut said = Vec::new();
    if let (Some(image), Some(text)) = (only, proxy) {
        match spoken(text) {
            Some(version) if version != image => found.push(format!(
                "the proxy says that it is {}, but the images are {image}",
                error_text::line(text)
            )),
            Some(_) => said.push("the proxy says the same"),
            None => said.push("the proxy does not say a release"),
        }
    }
    if let (Some(image), Some(sessions)) = (only, sessions) {
        found.extend(sessions.iter().filter_map(|one| other_version(one, image)));
        said.push("so do the sessions");
    }
    if found.is_empty() && !unknown.is_empty() {
        return Check::unknown(ID, unknown.join("; "));
    }
    found.extend(unknown);
    let version = by_version
        .first_key_value()
        .map_or("", |(version, _)| version);
    let seen = format!(
        "{} run {version}{}",
        count(running(release).count(), "workload"),
        said.iter()
            .map(|said| format!("; {said}"))
            .collect::<String>()
    );
    Check::of(ID, &found, seen)
}

/// The version in the text of a server: `v2.3.5`, `2.3.5`.
fn spoken(text: &str) -> Option<Version> {
    text.trim().trim_start_matches('v').parse().ok()
}

/// The message if a component's session has another version.
fn other_version(session: &Session, image: Version) -> Option<String> {
    let Holder::Component(_) = session.holder else {
        return None;
    };
    let text = session.version.as_deref()?;
    let version = spoken(text).filter(|version| *version != image)?;
    Some(format!(
        "{} says that it is {version}, but the images are {image}",
        shown(session)
    ))
}

/// Whether each session is of a pod that exists, and each coordinator has an active session.
#[must_use]
pub fn sessions(sessions: &[Session], release: &Release, pods: &[Pod]) -> Check {
    let name = |pod: &Pod| PodName {
        name: pod.name_any(),
        ips: pod
            .status
            .iter()
            .flat_map(|status| status.pod_ips.iter().flatten())
            .map(|ip| ip.ip.clone())
            .collect(),
    };
    let all: Vec<PodName> = pods.iter().map(name).collect();
    let mut found: Vec<String> = sessions
        .iter()
        .filter(|session| matches!(session.holder, Holder::Component(_)))
        .filter(|session| !active::may_be_of(session, &all))
        .map(|session| format!("{} is of a pod that does not exist", shown(session)))
        .collect();
    let coordinators: BTreeSet<Component> = running(release).map(|one| one.component).collect();
    for component in coordinators {
        let of: Vec<_> = release
            .of(component)
            .filter(|one| one.is_running())
            .collect();
        let version = of
            .iter()
            .find_map(|one| Some(one.version().build()?.version));
        let own: Vec<PodName> = of
            .iter()
            .flat_map(|one| pods.iter().filter(|pod| is_of(pod, one)))
            .map(name)
            .collect();
        if let Some(version) = version {
            found.extend(active::lacks(sessions, component, version, &own));
        }
    }
    let seen = format!(
        "{} of pods that exist, and each coordinator has an active one",
        are(sessions.len(), "session")
    );
    Check::of("sessions", &found, seen)
}

/// `session querynode-7 of pod my-release-milvus-querynode-x2x4z`.
fn shown(session: &Session) -> String {
    let key = session.key.trim_start_matches("session/");
    let host = session.host.as_deref().or(session.address.as_deref());
    error_text::line(&format!(
        "session {key} of {}",
        host.unwrap_or("an unknown host")
    ))
}

/// Whether loaded collections are served: compared with an earlier state if one is known, else as
/// completely as Milvus itself requires.
#[must_use]
pub fn collections(loaded: &Loaded, before: Option<(&str, &Baseline)>) -> Check {
    let check = if let Some((name, baseline)) = before {
        let mut found: Vec<String> = baseline
            .collections
            .iter()
            .filter(|one| !loaded.known.contains(&one.id))
            .map(|one| format!("collection {}: it does not exist any more", one.name))
            .collect();
        found.extend(loaded.regained(baseline).err().into_iter().flatten());
        let all = are(baseline.collections.len(), "collection");
        Check::of(COLLECTIONS, &found, format!("{all} served as in {name}"))
    } else {
        let all = are(loaded.collections.len(), "loaded collection");
        Check::of(
            COLLECTIONS,
            &loaded.missing(),
            format!("{all} served completely"),
        )
    };
    check.noting(&loaded.notes)
}

/// Whether users and roles exist, also those that existed before.
#[must_use]
pub fn privileges(now: &Principals, before: Option<&Record>) -> Check {
    let lost = |kind: &str, before: Option<&BTreeSet<String>>, now: &BTreeSet<String>| {
        let gone = before
            .into_iter()
            .flatten()
            .filter(|name| !now.contains(*name));
        gone.map(|name| format!("{kind} {name} does not exist any more"))
            .collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    let (users, roles) = (
        before.and_then(|record| record.users.as_ref()),
        before.and_then(|record| record.roles.as_ref()),
    );
    if now.users.is_empty() {
        found.push("Milvus lists no user although its authorization is on".into());
    }
    found.extend(lost("user", users, &now.users));
    found.extend(lost("role", roles, &now.roles));
    let seen = format!(
        "{} and {} {}",
        count(now.users.len(), "user"),
        count(now.roles.len(), "role"),
        if users.is_some() {
            "as in the record, at least"
        } else {
            "are listed"
        }
    );
    Check::of(PRIVILEGES, &found, seen)
}

/// Whether no run is in progress, or stopped half-way.
#[must_use]
pub fn run(runs: &[UpgradeRun]) -> Check {
    let open = runs.iter().filter(|run| run.is_under_way());
    let found = open.map(|run| {
        format!(
            "run {} ({} to {}) has not ended: {}",
            run.full_name(),
            run.spec.from,
            run.spec.to,
            run.status.phase.name()
        )
    });
    let seen = match runs.last() {
        None => "no run of this release is recorded".to_owned(),
        Some(last) => format!(
            "no run is in progress; the last one ({} to {}) is {}",
            last.spec.from,
            last.spec.to,
            last.status.phase.name()
        ),
    };
    Check::of("run", &found.collect::<Vec<_>>(), seen)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use milvus_guard_core::{rules::testing::Fixture, verification::Outcome};

    const SEPARATE: [Component; 3] = [Component::RootCoord, Component::QueryNode, Component::Proxy];

    fn release() -> Release {
        Fixture::of("2.3.5", &SEPARATE).release()
    }

    /// A pod of each workload, named after its workload with the suffix `-0`.
    fn pods(release: &Release) -> Vec<Pod> {
        let pod = |one: &ComponentWorkload| {
            let labels: serde_json::Map<String, serde_json::Value> = one
                .workload
                .pod
                .labels
                .iter()
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect();
            serde_json::from_value(json!({
                "metadata": {"name": format!("{}-0", one.workload.meta.object.name), "labels": labels},
                "spec": {"containers": [{"name": "milvus", "image": one.main().unwrap().image}]},
            }))
            .unwrap()
        };
        release.components.iter().map(pod).collect()
    }

    fn facts(release: &Release) -> Vec<RolloutFact> {
        let fact = |one: &ComponentWorkload| RolloutFact {
            release: release.name.clone(),
            component: one.component,
            workload: one.workload.meta.object.name.clone(),
            complete: true,
            ever_available: true,
            detail: String::new(),
        };
        release.components.iter().map(fact).collect()
    }

    fn session(key: &str, host: &str, version: &str) -> Session {
        let value = json!({"ServerID": 1, "HostName": host, "Version": version});
        Session::read(key.as_bytes(), value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_workload_is_complete_without_old_pods() {
        let release = release();
        let (mut pods, mut facts) = (pods(&release), facts(&release));
        assert_eq!(
            workloads(&release, Some(&facts), &pods).outcome,
            Outcome::Passed
        );
        assert_eq!(workloads(&release, None, &pods).outcome, Outcome::Unknown);
        facts[0].complete = false;
        facts[0].detail = "0 of 1 pods available".into();
        pods[1].spec.as_mut().unwrap().containers[0].image = Some("milvusdb/milvus:v2.3.2".into());
        let check = workloads(&release, Some(&facts), &pods);
        assert_eq!(check.outcome, Outcome::Failed);
        let text = check.messages.join("\n");
        assert!(text.contains("0 of 1 pods available"), "{text}");
        assert!(
            text.contains("does not run milvusdb/milvus:v2.3.5"),
            "{text}"
        );
    }

    #[test]
    fn versions_agree_with_those_that_servers_report() {
        let release = release();
        let root = |version| [session("session/rootcoord", "a", version)];
        let of = |wanted: Option<&str>, proxy, sessions: Option<&[Session]>| {
            let wanted = wanted.map(|text| text.parse().unwrap());
            versions(&release, wanted, proxy, sessions)
        };
        assert_eq!(of(None, None, None).outcome, Outcome::Passed);
        assert_eq!(
            of(Some("2.3.5"), Some("v2.3.5"), Some(&root("2.3.5"))).outcome,
            Outcome::Passed
        );
        assert_eq!(of(Some("2.3.6"), None, None).outcome, Outcome::Failed);
        assert_eq!(of(None, Some("v2.3.2"), None).outcome, Outcome::Failed);
        assert_eq!(
            of(None, None, Some(&root("2.3.2"))).outcome,
            Outcome::Failed
        );
        let seen = of(None, Some("2.3-20240101-0123abc"), None);
        assert_eq!(seen.outcome, Outcome::Passed);
        assert!(
            seen.messages[0].contains("does not say a release"),
            "{seen:?}"
        );
        assert_eq!(common_version(&release).as_deref(), Some("2.3.5"));
        let mixed = Fixture::of("2.3.5", &SEPARATE).tag_of(Component::Proxy, "v2.3.2");
        assert_eq!(common_version(&mixed.release()), None);
        assert_eq!(
            versions(&mixed.release(), None, None, None).outcome,
            Outcome::Failed
        );
    }

    #[test]
    fn a_session_of_no_pod_and_a_coordinator_without_one_are_found() {
        let release = release();
        let pods = pods(&release);
        let root = pods[0].name_any();
        let whole = [session("session/rootcoord", &root, "2.3.5")];
        assert_eq!(sessions(&whole, &release, &pods).outcome, Outcome::Passed);
        let left = [
            whole[0].clone(),
            session("session/proxy-7", "gone", "2.3.5"),
        ];
        let check = sessions(&left, &release, &pods);
        assert_eq!(
            check.messages,
            ["session proxy-7 of gone is of a pod that does not exist"]
        );
        let none = sessions(&[], &release, &pods);
        assert_eq!(none.messages, ["no rootcoord is active in etcd"]);
    }

    #[test]
    fn collections_and_users_that_existed_before_must_exist() {
        let before = Baseline {
            collections: vec![milvus_guard_core::api::loaded::CollectionBaseline {
                name: "books".into(),
                id: 7,
                ..Default::default()
            }],
        };
        let now = Loaded::default();
        assert_eq!(collections(&now, None).outcome, Outcome::Passed);
        let check = collections(&now, Some(("the record", &before)));
        assert_eq!(
            check.messages,
            ["collection books: it does not exist any more"]
        );
        let users = |names: &[&str]| Principals {
            users: names.iter().map(ToString::to_string).collect(),
            roles: BTreeSet::new(),
        };
        assert_eq!(privileges(&users(&["root"]), None).outcome, Outcome::Passed);
        assert_eq!(privileges(&users(&[]), None).outcome, Outcome::Failed);
    }
}
