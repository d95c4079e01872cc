//! MG405: an image that is no longer published cannot be pulled by a new node.

use crate::{
    change::Upgrade,
    manifest::object::{Meta, Workload},
    milvus::image::ImageRef,
    text::count,
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG405",
    name: "vanished-image",
    title: "every image can still be pulled",
    category: Category::Dependencies,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After],
    what: "Warns about images that their repository no longer publishes, in every container and \
           init container of Milvus and its dependencies. If the change does not modify a \
           workload, the rule only reports them.",
    why: "Pods that move to another node, or restart with a new template, end in ImagePullBackOff, \
          and that component or dependency is down.",
    example: "Charts below 5.0.28 use minio/minio, which Docker Hub removed in September 2026.",
    fix: "Use the image from its new repository, or from your own mirror.",
    sources: &[
        "milvus-helm#244",
        "milvus-helm#253",
        "milvus#47107",
        "milvus-helm#315",
        "milvus-helm#316",
        "milvus#53430",
        "milvus-backup#1221",
    ],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    findings.not_applicable("the release contains no etcd, object storage or message queue");
    if !upgrade.after.dependencies.is_empty() {
        findings.checked();
    }
    let mut seen: Vec<(&str, Vec<&Meta>)> = Vec::new();
    for workload in workloads(upgrade) {
        for container in workload
            .pod
            .containers
            .iter()
            .chain(&workload.pod.init_containers)
        {
            match seen.iter_mut().find(|(image, _)| *image == container.image) {
                Some((_, users))
                    if users.iter().any(|meta| meta.object == workload.meta.object) => {}
                Some((_, users)) => users.push(&workload.meta),
                None => seen.push((&container.image, vec![&workload.meta])),
            }
        }
    }
    for (reference, users) in seen {
        let image = ImageRef::parse(reference);
        let Some(row) = upgrade
            .catalogue
            .dependencies
            .vanished
            .iter()
            .find(|row| row.describes(&image))
        else {
            continue;
        };
        let Some(first) = users.first() else { continue };
        let others = match users.len() - 1 {
            0 => String::new(),
            more => format!(" and {}", count(more, "more workload")),
        };
        let message = format!(
            "the image {image} of {}{others} is no longer published",
            first.object
        );
        let finding = if is_unchanged(upgrade) {
            findings.audit(message)
        } else {
            findings.warn(message)
        };
        finding
            .object(first)
            .evidence("image", None, Some(image.to_string()), Some(&first.origin));
        match row.at_new_place(&image) {
            Some(moved) => {
                finding.remedy(upgrade.advice().moved_image(&moved, value(upgrade, &moved)))
            }
            None => finding.fix(
                "No public registry has this tag any more. Copy the image into your own registry \
                 from a node that still has it, before that node is removed.",
            ),
        };
    }
}

/// Whether the change leaves the pods of every workload as they are, so that none starts because of
/// it.
fn is_unchanged(upgrade: &Upgrade<'_>) -> bool {
    let Some((before, after)) = upgrade.both() else {
        return false;
    };
    let same = |old: &Workload, new: &Workload| {
        old.meta.object.name == new.meta.object.name
            && old.pod.makes_same_pods(&new.pod)
            && old.wanted_replicas() == new.wanted_replicas()
    };
    let stays = |new: &Workload| {
        let mut olds = before
            .components
            .iter()
            .map(|old| &old.workload)
            .chain(before.dependencies.iter().map(|old| &old.workload));
        olds.any(|old| same(old, new))
    };
    before.components.len() == after.components.len()
        && before.dependencies.len() == after.dependencies.len()
        && workloads(upgrade).all(stays)
}

/// The value of the chart that names the image's new repository, as the table of chart hazards has
/// it.
fn value<'a>(upgrade: &Upgrade<'a>, moved: &ImageRef) -> Option<&'a str> {
    let chart = upgrade.after.chart.as_ref()?.version;
    let rows = upgrade.catalogue.hazards.iter().filter(|row| {
        row.charts
            .as_ref()
            .is_some_and(|charts| charts.contains(chart))
    });
    let mut pins = rows.flat_map(|row| &row.pin).map(String::as_str);
    pins.find(|pin| {
        pin.split_once('=')
            .is_some_and(|(_, repository)| repository == moved.repository)
    })
}

/// The workloads of the release, each once.
fn workloads<'a>(upgrade: &Upgrade<'a>) -> impl Iterator<Item = &'a Workload> {
    let components = upgrade.after.components.iter().map(|one| &one.workload);
    let dependencies = upgrade.after.separate_dependencies();
    dependencies.chain(components).map(|one| &**one)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::Proxy,
        rules::{
            Severity,
            testing::{Fixture, judge, judge_releases, release_of},
        },
    };

    #[rstest]
    #[case("bitnami/kafka:3.1.0", Some("bitnamilegacy/kafka:3.1.0"))]
    #[case(
        "docker.io/bitnami/kafka:3.1.0-debian-10-r52",
        Some("bitnamilegacy/kafka:3.1.0-debian-10-r52")
    )]
    #[case(
        "registry-1.docker.io/bitnami/kafka:3.1.0",
        Some("bitnamilegacy/kafka:3.1.0")
    )]
    #[case(
        "minio/minio:RELEASE.2024-12-18T13-15-44Z",
        Some("quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z")
    )]
    #[case(
        "docker.io/minio/mc:RELEASE.2024-11-21T17-21-54Z",
        Some("quay.io/minio/mc:RELEASE.2024-11-21T17-21-54Z")
    )]
    #[case(
        "minio/minio:RELEASE.2022-03-17T06-34-49Z",
        Some("No public registry has this tag")
    )]
    #[case("minio/minio@sha256:aa", Some("quay.io/minio/minio@sha256:aa"))]
    #[case("docker.io/bitnamilegacy/kafka:3.1.0", None)]
    #[case("registry.local/bitnami/kafka:3.1.0", None)]
    #[case(
        "my.docker.io.example.com/minio/minio:RELEASE.2024-12-18T13-15-44Z",
        None
    )]
    #[case("quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z", None)]
    #[case("minio/minio-operator:v6.0.0", None)]
    #[case("milvusdb/minio:RELEASE.2024-12-18T13-15-44Z", None)]
    #[case("pgsty/silo:RELEASE.2026-09-16T00-00-00Z", None)]
    #[case("milvusdb/etcd:3.5.5-r2", None)]
    fn images(#[case] image: &str, #[case] fix: Option<&str>) {
        let after = Fixture::cluster("2.4.17").stateful_set(
            "my-release-kafka",
            "app.kubernetes.io/name: kafka",
            image,
        );
        let found = judge(&RULE, None, &after);
        assert_eq!(found.len(), usize::from(fix.is_some()), "{found:?}");
        if let Some(fix) = fix {
            assert!(found[0].fix.text.contains(fix), "{:?}", found[0].fix);
        }
    }

    #[rstest]
    // Fields that the API server sets are not a change.
    #[case(
        "replicas: 1, strategy: {type: RollingUpdate}, ",
        "terminationGracePeriodSeconds: 30, ",
        Severity::Audit
    )]
    #[case("replicas: 2, ", "", Severity::Warn)]
    #[case("", "terminationGracePeriodSeconds: 60, ", Severity::Warn)]
    // A strategy alone starts no pod.
    #[case("strategy: {type: Recreate}, ", "", Severity::Audit)]
    fn a_live_object_and_its_manifest_are_the_same(
        #[case] spec: &str,
        #[case] pod: &str,
        #[case] expected: Severity,
    ) {
        let release = |spec: &str, pod: &str| {
            release_of(&format!(
                "kind: Deployment\nmetadata: {{name: m}}\nspec: {{{spec}selector: {{matchLabels: {{app: m}}}}, template: {{metadata: {{labels: {{app: m}}}}, spec: {{{pod}containers: [{{name: m, image: \"milvusdb/milvus:v2.5.27\", args: [milvus, run, standalone]}}, {{name: n, image: \"minio/mc:RELEASE.2024-11-21T17-21-54Z\"}}]}}}}}}\n"
            ))
        };
        let found = judge_releases(&RULE, &release(spec, pod), &release("", ""));
        assert_eq!(found[0].severity, expected, "{found:?}");
    }

    #[test]
    fn init_containers_and_sidecars_count_once_for_each_image() {
        let wait =
            "initContainers:\n  - {name: wait, image: \"minio/mc:RELEASE.2024-11-21T17-21-54Z\"}";
        let found = judge(&RULE, None, &Fixture::cluster("2.4.17").pod(Proxy, wait));
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].message,
            "the image minio/mc:RELEASE.2024-11-21T17-21-54Z of Deployment/my-release-milvus-proxy is no longer published"
        );
        let image = "minio/minio:RELEASE.2024-12-18T13-15-44Z";
        let two = Fixture::cluster("2.4.17")
            .stateful_set("a-minio", "app: minio", image)
            .stateful_set("b-minio", "app: minio", image);
        let found = judge(&RULE, None, &two);
        assert!(
            found.len() == 1
                && found[0]
                    .message
                    .contains("StatefulSet/a-minio and 1 more workload"),
            "{found:?}"
        );
    }

    #[test]
    fn the_charts_value_is_named_where_the_chart_has_one() {
        let minio = |chart: &str| {
            let fixture = Fixture::cluster("2.6.11").chart(chart);
            let fixture = fixture.stateful_set(
                "my-release-minio",
                "app: minio",
                "minio/minio:RELEASE.2024-12-18T13-15-44Z",
            );
            judge(&RULE, None, &fixture)[0].fix.text.to_string()
        };
        assert!(
            minio("5.0.14")
                .contains("Set minio.image.repository=quay.io/minio/minio in the Helm values"),
            "{}",
            minio("5.0.14")
        );
        assert!(!minio("5.0.28").contains("Helm values"));
    }

    #[test]
    fn a_change_of_nothing_is_no_occasion_for_a_warning() {
        let run = || {
            Fixture::cluster("2.5.16").stateful_set(
                "my-release-minio",
                "app: minio",
                "minio/minio:RELEASE.2024-12-18T13-15-44Z",
            )
        };
        let severity =
            |before: Option<&Fixture>, after: &Fixture| judge(&RULE, before, after)[0].severity;
        assert_eq!(severity(Some(&run()), &run()), Severity::Audit);
        assert_eq!(
            severity(Some(&run()), &run().replicas(Proxy, 2)),
            Severity::Warn
        );
        assert_eq!(
            severity(
                Some(&run()),
                &Fixture::cluster("2.5.27").stateful_set(
                    "my-release-minio",
                    "app: minio",
                    "minio/minio:RELEASE.2024-12-18T13-15-44Z"
                )
            ),
            Severity::Warn
        );
        assert_eq!(severity(None, &run()), Severity::Warn);
        // What the API server adds starts no pod.
        let live = run().object(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: my-release-minio-gateway}\nspec:\n  replicas: 1\n  strategy: {type: RollingUpdate}\n  selector:\n    matchLabels: {app: minio, release: my-release}\n  template:\n    spec:\n      terminationGracePeriodSeconds: 30\n      containers: [{name: minio, image: \"quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z\"}]\n",
        );
        let rendered = run().object(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: my-release-minio-gateway}\nspec:\n  selector:\n    matchLabels: {app: minio, release: my-release}\n  template:\n    spec:\n      containers: [{name: minio, image: \"quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z\"}]\n",
        );
        assert_eq!(severity(Some(&live), &rendered), Severity::Audit);
    }
}
