//! Which workloads of Milvus form one release.
//!
//! Workloads of one instance do, as their selectors say, which cannot change. Without an
//! instance names decide: a workload is called after its release and its component. Names may be
//! anything, so parts of one cluster that share their metadata are put together, and a label that
//! a tool put on several standalones does not make them one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::manifest::object::{ConfigMap, Workload};

use super::{
    component::Component,
    config::{EffectiveConfig, Parsed},
    configured::configure,
    dependency,
    identify::component_of_word,
    manager::Manager,
    release::{ChartRef, ComponentWorkload, Release},
    version::Version,
};

/// Words of a name that a component may have, as in `query-node`.
const MAX_WORDS: usize = 2;

/// The releases that workloads form, with their configuration, ordered by namespace and name.
pub(super) fn releases(
    workloads: Vec<ComponentWorkload>,
    configs: &[Arc<ConfigMap>],
) -> Vec<Release> {
    let mut parsed = Parsed::default();
    let mut groups: BTreeMap<(Option<String>, String, String), Vec<ComponentWorkload>> =
        BTreeMap::new();
    for workload in workloads {
        let namespace = workload.workload.meta.object.namespace.clone();
        let (name, app_name) = identity(&workload);
        let key = (namespace, name, app_name);
        groups.entry(key).or_default().push(workload);
    }
    let mut found = Vec::new();
    let mut parts: Vec<Release> = Vec::new();
    for ((namespace, name, app_name), components) in groups {
        let release = release(namespace, name, app_name, components, configs, &mut parsed);
        if release.components.iter().all(is_unlabelled) {
            parts.push(release);
        } else {
            found.extend(standalones(release, configs, &mut parsed));
        }
    }
    found.extend(whole(parts, configs, &mut parsed));
    found.sort_by(|one, other| {
        let key = |release: &Release| {
            let (namespace, name) = (release.namespace.clone(), release.name.clone());
            (namespace, name, release.app_name.clone())
        };
        key(one).cmp(&key(other))
    });
    found
}

fn release(
    namespace: Option<String>,
    name: String,
    app_name: String,
    components: Vec<ComponentWorkload>,
    configs: &[Arc<ConfigMap>],
    parsed: &mut Parsed,
) -> Release {
    let mut release = Release {
        fullname: String::new(),
        manager: Manager::default(),
        chart: None,
        config: EffectiveConfig::default(),
        dependencies: Vec::new(),
        claims: Vec::new(),
        volumes: Vec::new(),
        services: Arc::default(),
        autoscalers: Vec::new(),
        helm: None,
        name,
        namespace,
        app_name,
        components,
    };
    release.sort();
    release.fullname = fullname(&release.components);
    release.chart = chart(&release.components);
    configure(&mut release, configs, parsed);
    release
}

/// The releases of a group: several standalones, each with its own metadata, are as many releases,
/// if only a label that a tool may set later connects them.
fn standalones(group: Release, configs: &[Arc<ConfigMap>], parsed: &mut Parsed) -> Vec<Release> {
    let is_loose = |one: &ComponentWorkload| {
        one.component == Component::Standalone && !is_labelled_for_good(&one.workload)
    };
    if group.components.len() < 2 || !group.components.iter().all(is_loose) {
        return vec![group];
    }
    let mut by_stem: BTreeMap<String, Vec<ComponentWorkload>> = BTreeMap::new();
    for one in &group.components {
        let stem = stem(one).to_owned();
        by_stem.entry(stem).or_default().push(one.clone());
    }
    let parts: Vec<Release> = by_stem
        .into_iter()
        .map(|(stem, components)| {
            let (namespace, app_name) = (group.namespace.clone(), group.app_name.clone());
            release(namespace, stem, app_name, components, configs, parsed)
        })
        .collect();
    let are_apart = parts.iter().enumerate().all(|(at, one)| {
        parts[..at]
            .iter()
            .all(|other| has_same_metadata(one, other) == Some(false))
    });
    if are_apart { parts } else { vec![group] }
}

/// Puts parts of one cluster together: they are in one namespace, no label says where they belong,
/// and they share their metadata, or it is not known and no role is in both.
fn whole(parts: Vec<Release>, configs: &[Arc<ConfigMap>], parsed: &mut Parsed) -> Vec<Release> {
    let mut found: Vec<Vec<Release>> = Vec::new();
    for part in parts {
        let fits = |group: &&mut Vec<Release>| group.iter().all(|one| is_of_one(one, &part));
        match found.iter_mut().find(fits) {
            Some(group) => group.push(part),
            None => found.push(vec![part]),
        }
    }
    found
        .into_iter()
        .filter_map(|group| {
            let name = common_name(&group);
            let mut group = group.into_iter();
            let first = group.next()?;
            if group.len() == 0 {
                return Some(first);
            }
            let (namespace, app_name) = (first.namespace.clone(), first.app_name.clone());
            let components = std::iter::once(first)
                .chain(group)
                .flat_map(|part| part.components)
                .collect();
            Some(release(
                namespace, name, app_name, components, configs, parsed,
            ))
        })
        .collect()
}

fn is_of_one(one: &Release, other: &Release) -> bool {
    let roles = |release: &Release| -> BTreeSet<Component> {
        release.components.iter().map(|one| one.component).collect()
    };
    let (roles, others) = (roles(one), roles(other));
    let is_cluster = |roles: &BTreeSet<Component>| !roles.contains(&Component::Standalone);
    one.namespace == other.namespace
        && is_cluster(&roles)
        && is_cluster(&others)
        && has_same_metadata(one, other).unwrap_or_else(|| roles.is_disjoint(&others))
}

/// Whether both keep their metadata in one place; `None` if it is not known.
fn has_same_metadata(one: &Release, other: &Release) -> Option<bool> {
    Some(one.data_location()?.is_same(&other.data_location()?))
}

/// The words that the names of all parts begin with, else `milvus`.
fn common_name(parts: &[Release]) -> String {
    let mut names = parts
        .iter()
        .map(|part| part.name.split('-').collect::<Vec<_>>());
    let mut common = names.next().unwrap_or_default();
    for name in names {
        let same = common.iter().zip(&name).take_while(|(one, two)| one == two);
        common.truncate(same.count());
    }
    if common.is_empty() {
        "milvus".to_owned()
    } else {
        common.join("-")
    }
}

/// Whether the instance of a workload is in its selector, or is its release of Helm: it cannot
/// change later.
fn is_labelled_for_good(workload: &Workload) -> bool {
    let selector = &workload.selector;
    selector.get("app.kubernetes.io/instance").is_some()
        || selector.get("release").is_some()
        || workload
            .meta
            .annotation("meta.helm.sh/release-name")
            .is_some()
}

fn is_unlabelled(workload: &ComponentWorkload) -> bool {
    dependency::instance(&workload.workload).is_none()
}

fn identity(workload: &ComponentWorkload) -> (String, String) {
    let inner = &workload.workload;
    let name = dependency::instance(inner).map_or_else(|| stem(workload).to_owned(), str::to_owned);
    let app_name = inner
        .selector
        .get("app.kubernetes.io/name")
        .or_else(|| inner.meta.labels.get("app.kubernetes.io/name"));
    (name, app_name.unwrap_or("milvus").to_owned())
}

/// The workload's name without its component, which stands at its end, as charts have it, or at
/// its begin, in any spelling.
fn stem(workload: &ComponentWorkload) -> &str {
    let name = &workload.workload.meta.object.name;
    let component = workload.component;
    let suffix = format!("-{}", component.name());
    if let Some(at) = name.rfind(&suffix) {
        return &name[..at];
    }
    let dashes: Vec<usize> = name.match_indices('-').map(|(at, _)| at).collect();
    let is_component = |word: &str| component_of_word(word) == Some(component);
    let ends = dashes.iter().rev().take(MAX_WORDS);
    let begins = dashes.iter().take(MAX_WORDS);
    ends.map(|at| (&name[..*at], &name[at + 1..]))
        .chain(begins.map(|at| (&name[at + 1..], &name[..*at])))
        .find(|(rest, word)| !rest.is_empty() && is_component(word))
        .map_or(name, |(rest, _)| rest)
}

fn fullname(components: &[ComponentWorkload]) -> String {
    components
        .first()
        .map(|workload| stem(workload).to_owned())
        .unwrap_or_default()
}

fn chart(components: &[ComponentWorkload]) -> Option<ChartRef> {
    components.iter().find_map(|workload| {
        let (name, version) = workload
            .workload
            .meta
            .label("helm.sh/chart")?
            .rsplit_once('-')?;
        let numbers = version.split(['+', '_']).next()?;
        Some(ChartRef {
            name: name.to_owned(),
            version: Version::parse_lenient(numbers)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::{
        milvus::{Snapshot, snapshot::Builder},
        rules::testing::objects_of,
    };

    /// A Milvus of this role, with its etcd root path in a variable.
    fn deployment(name: &str, role: &str, root: &str, labels: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n\
             spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: \
             {{app: {name}}}}}\n    spec:\n      containers:\n      - name: milvus\n        image: \
             milvusdb/milvus:v2.4.24\n        args: [milvus, run, {role}]\n        env:\n        \
             - {{name: ETCD_ENDPOINTS, value: etcd:2379}}\n        - {{name: ETCD_ROOT_PATH, value: \
             {root}}}\n---\n"
        )
    }

    fn snapshot(text: &str) -> Snapshot {
        let mut builder = Builder::default();
        for object in objects_of(text) {
            builder.add(object);
        }
        builder.build()
    }

    fn names(text: &str) -> Vec<String> {
        let names = snapshot(text).releases.into_iter();
        names.map(|release| release.name).collect()
    }

    #[rstest]
    #[case::charts(["vdb-mixcoord", "vdb-proxy", "vdb-querynode"], "vdb")]
    #[case::dashes(["vdb-mix-coord", "vdb-proxy", "vdb-query-node"], "vdb")]
    #[case::component_first(["mixcoord-vdb", "proxy-vdb", "querynode-vdb"], "vdb")]
    #[case::other_words(["vdb-brain", "vdb-gateway", "vdb-search"], "vdb")]
    #[case::nothing_in_common(["brain", "gateway", "search"], "milvus")]
    fn the_parts_of_a_cluster_are_one_release(#[case] parts: [&str; 3], #[case] expected: &str) {
        let roles = ["mixture", "proxy", "querynode"];
        let text: String = parts
            .iter()
            .zip(roles)
            .map(|(name, role)| deployment(name, role, "a", ""))
            .collect();
        assert_eq!(names(&text), [expected]);
    }

    #[test]
    fn clusters_with_metadata_of_their_own_stay_apart() {
        let text: String = [
            ("brain", "mixture", "a"),
            ("gateway", "proxy", "a"),
            ("head", "mixture", "b"),
            ("gate", "proxy", "b"),
        ]
        .iter()
        .map(|(name, role, root)| deployment(name, role, root, ""))
        .collect();
        assert_eq!(snapshot(&text).releases.len(), 2);
    }

    #[rstest]
    #[case::own_metadata("one", "two", &["one", "two"])]
    #[case::one_metadata("one", "one", &["app"])]
    fn a_label_that_a_tool_put_on_standalones(
        #[case] root: &str,
        #[case] other: &str,
        #[case] expected: &[&str],
    ) {
        let label = "app.kubernetes.io/instance: app";
        let text = deployment("one", "standalone", root, label)
            + &deployment("two", "standalone", other, label);
        assert_eq!(names(&text), expected);
    }

    /// An etcd with a claim, and this instance in its labels.
    fn etcd(name: &str, instance: &str) -> String {
        let labels =
            format!("app.kubernetes.io/name: etcd, app.kubernetes.io/instance: {instance}");
        format!(
            "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n\
             spec:\n  selector: {{matchLabels: {{{labels}}}}}\n  template:\n    metadata: {{labels: \
             {{{labels}}}}}\n    spec: {{containers: [{{name: etcd, image: milvusdb/etcd:3.5.18-r1}}]}}\n  \
             volumeClaimTemplates: [{{metadata: {{name: data}}}}]\n---\n"
        )
    }

    #[rstest]
    #[case::its_instance("store", "one", &["one"])]
    #[case::as_the_operator_names_it("one-etcd", "one-etcd", &["one"])]
    #[case::the_longest_name("one-b-etcd", "one-b-etcd", &["one-b"])]
    #[case::named_by_both("etcd", "x", &["one", "one-b"])]
    #[case::named_by_none("store", "x", &["one", "one-b"])]
    fn a_dependency_beside_two_releases(
        #[case] name: &str,
        #[case] instance: &str,
        #[case] expected: &[&str],
    ) {
        let text = deployment("one", "standalone", "one", "")
            + &deployment("one-b", "standalone", "one-b", "")
            + &etcd(name, instance);
        let releases = snapshot(&text).releases.into_iter();
        let owners: Vec<String> = releases
            .filter(|release| !release.dependencies.is_empty())
            .map(|release| release.name)
            .collect();
        assert_eq!(owners, expected);
    }
}
