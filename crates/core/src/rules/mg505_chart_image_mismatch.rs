//! MG505: an image must read what the chart renders.

use crate::{
    change::Upgrade,
    manifest::object::{Container, PodTemplate},
    milvus::{Release, Version, dependency::Family, image::ImageRef, release::ComponentWorkload},
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG505",
    name: "chart-image-mismatch",
    title: "images can read the configuration that the chart renders",
    category: Category::Chart,
    default: DefaultAction::DenyOrWarn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After, Need::Version],
    what: "Denies images below 2.4 whose configuration consists of default.yaml and user.yaml \
           without the init container that merges them, as charts from 4.2.0 on render it (warns \
           if the release already runs like this). Warns about containers that start with the \
           script which that init container copies, and if the command of an object store does not \
           match its image (MinIO, Silo).",
    why: "Images before 2.4 read only milvus.yaml. They start with the defaults of the image: \
          another etcd, another queue, another bucket.",
    example: "Chart 4.2.13 with image.all.tag=v2.3.3.",
    fix: "Stay on chart 4.1.36 until the image is 2.4 or later.",
    sources: &[
        "milvus-helm README",
        "milvus-helm charts 4.1.36 and 4.2.0, rendered",
        "milvus-helm#315",
        "milvus-helm#317",
    ],
    check,
};

/// The first release that merges default.yaml and user.yaml itself.
const MERGES: Version = Version::new(2, 4, 0);
/// The first chart without the init container.
const WITHOUT_INIT: Version = Version::new(4, 2, 0);
/// The script that the init container brings.
const WRAPPER: &str = "run-helm.sh";

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (chart, chart_before) = (own_chart(upgrade.after), upgrade.before.and_then(own_chart));
    let mut unmerged: Vec<&ComponentWorkload> = Vec::new();
    let mut is_new = false;
    for component in &upgrade.after.components {
        findings.checked();
        if lacks_wrapper(component) {
            findings
                .warn(format!(
                    "{} would start with {WRAPPER}, which no init container copies",
                    component.component
                ))
                .because(
                    "Unless the image contains the script, the container fails to start: no \
                          such file or directory.",
                )
                .on(component)
                .fix(
                    "Use the workload as one chart version renders it: charts from 3.3.2 to \
                      4.1.36 copy the script with an init container.",
                );
        }
        if is_unmerged(component, chart) {
            unmerged.push(component);
            let before = upgrade
                .before
                .into_iter()
                .flat_map(|before| before.of(component.component));
            is_new |= !before.into_iter().any(|old| is_unmerged(old, chart_before));
        }
    }
    if let Some(first) = unmerged.first() {
        let names = unmerged
            .iter()
            .map(|component| component.component.name())
            .collect::<Vec<_>>()
            .join(", ");
        let image = first.image();
        let message = format!(
            "{image} does not read default.yaml and user.yaml, and no init container merges them ({names})"
        );
        let finding = if is_new {
            findings.deny(message)
        } else {
            findings.warn(message)
        };
        finding
            .on(first)
            .evidence(
                "chart",
                chart_before.map(|version| version.to_string()),
                chart.map(|version| version.to_string()),
                Some(&first.workload.meta.origin),
            )
            .evidence("image", None, Some(image.to_string()), None);
        if chart.is_none() {
            finding.fix("Mount the whole configuration as /milvus/configs/milvus.yaml, or use an image of 2.4 or later.");
        }
    }
    for dependency in upgrade
        .after
        .dependencies_of(Family::Minio)
        .chain(upgrade.after.dependencies_of(Family::Silo))
    {
        for container in dependency.containers() {
            let image = ImageRef::parse(&container.image);
            let own = if image.name().contains("silo") {
                "silo"
            } else {
                "minio"
            };
            let Some(called) = server_program(container).filter(|called| *called != own) else {
                continue;
            };
            let name = &dependency.workload.meta.object.name;
            findings
                .warn(format!(
                    "the command of {name} starts {called}, but the program in {image} \
                               is {own}"
                ))
                .because(
                    "Silo is a fork of MinIO with another program name. The pod does not start, \
                     and Milvus has no object store.",
                )
                .object(&dependency.workload.meta)
                .evidence(
                    "image",
                    None,
                    Some(image.to_string()),
                    Some(&dependency.workload.meta.origin),
                )
                .fix(format!(
                    "Change the command to {own}, or remove the command so that the \
                              image's entry point runs."
                ));
        }
    }
}

/// Whether a component of the release gets its configuration in files that its image does not read.
pub(super) fn has_unmerged(release: &Release) -> bool {
    release
        .components
        .iter()
        .any(|component| is_unmerged(component, own_chart(release)))
}

/// The version of the Milvus project's chart; `None` if another chart, or none, made the release.
fn own_chart(release: &Release) -> Option<Version> {
    release
        .chart
        .as_ref()
        .filter(|_| !release.manager.is_bitnami())
        .map(|chart| chart.version)
}

/// Whether an image below 2.4 gets its configuration in files that it does not read.
fn is_unmerged(component: &ComponentWorkload, chart: Option<Version>) -> bool {
    let is_old = component
        .version()
        .build()
        .is_some_and(|build| build.version < MERGES);
    let Some(container) = component.main().filter(|_| is_old) else {
        return false;
    };
    let mounts = |file: &str| {
        container
            .mounts
            .iter()
            .any(|mount| mount.path.rsplit('/').next() == Some(file))
    };
    if mounts("milvus.yaml") || merges(&component.workload.pod, container) {
        return false;
    }
    // Where no mounts are shown, only the chart's label tells.
    let shown = !container.mounts.is_empty();
    mounts("default.yaml")
        || mounts("user.yaml")
        || (!shown && chart.is_some_and(|chart| chart >= WITHOUT_INIT))
}

/// Whether an init container or a wrapper merges the files.
fn merges(pod: &PodTemplate, container: &Container) -> bool {
    pod.init_containers.iter().any(brings_wrapper) || calls_wrapper(container)
}

fn brings_wrapper(init: &Container) -> bool {
    ImageRef::parse(&init.image).name().contains("config-tool") || calls_wrapper(init)
}

fn calls_wrapper(container: &Container) -> bool {
    container.command.iter().any(|word| word.contains(WRAPPER))
}

fn lacks_wrapper(component: &ComponentWorkload) -> bool {
    component.main().is_some_and(calls_wrapper)
        && !component
            .workload
            .pod
            .init_containers
            .iter()
            .any(brings_wrapper)
}

/// The program that a command starts as an object store: the last of the two names before the word
/// `server`.
fn server_program(container: &Container) -> Option<&'static str> {
    let words: Vec<&str> = container
        .command
        .iter()
        .flat_map(|word| word.split_whitespace())
        .collect();
    let end = words.iter().position(|word| *word == "server")?;
    let is_program = |word: &str, name: &str| {
        word == name
            || word
                .strip_suffix(name)
                .is_some_and(|path| path.ends_with("bin/"))
    };
    words.get(..end)?.iter().rev().find_map(|word| {
        ["minio", "silo"]
            .into_iter()
            .find(|name| is_program(word, name))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component::Proxy,
        rules::{
            Severity,
            testing::{Fixture, judge},
        },
    };

    const PARTS: &str = "volumeMounts:\n  - {name: c, mountPath: /milvus/configs/default.yaml, subPath: default.yaml}\n  - {name: c, mountPath: /milvus/configs/user.yaml, subPath: user.yaml}";
    const WHOLE: &str = "volumeMounts:\n  - {name: c, mountPath: /milvus/configs/milvus.yaml, subPath: milvus.yaml}";
    const INIT: &str = "initContainers:\n  - {name: config, image: \"milvusdb/milvus-config-tool:v0.1.2\", command: [/cp, \"/run-helm.sh,/merge\"]}";

    fn proxy(version: &str, chart: &str, mounts: &str, pod: &str) -> Fixture {
        Fixture::of(version, &[Proxy])
            .chart(chart)
            .unmerged()
            .container(Proxy, mounts)
            .pod(Proxy, pod)
    }

    #[rstest]
    #[case("2.3.3", "4.2.13", PARTS, "", true)]
    #[case("2.3.3", "4.1.36", PARTS, "", true)]
    #[case("2.3.3", "4.2.13", "", "", true)]
    #[case("2.3.3", "4.1.36", PARTS, INIT, false)]
    #[case("2.3.3", "4.2.13", PARTS, INIT, false)]
    #[case("2.3.3", "4.2.13", WHOLE, "", false)]
    #[case("2.3.3", "4.1.36", "", "", false)]
    #[case("2.4.0", "4.2.13", PARTS, "", false)]
    #[case("2.4.5", "4.1.36", PARTS, INIT, false)]
    fn what_is_rendered_decides(
        #[case] version: &str,
        #[case] chart: &str,
        #[case] mounts: &str,
        #[case] pod: &str,
        #[case] denied: bool,
    ) {
        let found = judge(&RULE, None, &proxy(version, chart, mounts, pod));
        assert_eq!(
            found
                .iter()
                .map(|finding| finding.severity)
                .collect::<Vec<_>>(),
            vec![Severity::Deny; usize::from(denied)],
            "{found:?}"
        );
    }

    #[test]
    fn manifests_without_a_chart_get_no_advice_about_charts() {
        let yaml = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: milvus}}\nspec:\n  selector: {{matchLabels: {{app: milvus}}}}\n  template:\n    spec:\n      containers:\n        - name: standalone\n          image: milvusdb/milvus:v2.3.3\n          args: [milvus, run, standalone]\n{}\n",
            PARTS
                .lines()
                .map(|line| format!("          {line}"))
                .collect::<Vec<_>>()
                .join("\n")
        );
        let after = Fixture::of("2.3.3", &[]).object(&yaml);
        let found = judge(&RULE, None, &after);
        assert!(
            found.len() == 1 && found[0].fix.text.contains("/milvus/configs/milvus.yaml"),
            "{found:?}"
        );
    }

    #[test]
    fn an_existing_mismatch_is_a_warning() {
        let (merged, bare) = (
            proxy("2.3.3", "4.1.36", PARTS, INIT),
            proxy("2.3.3", "4.2.13", PARTS, ""),
        );
        assert_eq!(
            judge(&RULE, Some(&merged), &bare)[0].severity,
            Severity::Deny
        );
        assert_eq!(judge(&RULE, Some(&bare), &bare)[0].severity, Severity::Warn);
        assert!(judge(&RULE, Some(&bare), &proxy("2.4.5", "4.2.13", PARTS, "")).is_empty());
        assert!(judge(&RULE, Some(&bare), &merged).is_empty());
    }

    #[test]
    fn every_component_is_named_once() {
        let found = judge(&RULE, None, &Fixture::cluster("2.3.3").chart("4.2.0"));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].message.contains("rootcoord, datacoord")
                && found[0].message.contains("milvusdb/milvus:v2.3.3"),
            "{}",
            found[0].message
        );
    }

    #[rstest]
    #[case("", 1)]
    #[case(INIT, 0)]
    fn a_script_needs_the_container_that_brings_it(#[case] pod: &str, #[case] found: usize) {
        let command = "command: [/milvus/tools/run-helm.sh]";
        assert_eq!(
            judge(&RULE, None, &proxy("2.4.5", "4.2.13", command, pod)).len(),
            found
        );
    }

    #[rstest]
    #[case(
        "pgsty/silo:RELEASE.2026-09-16T00-00-00Z",
        "/usr/bin/docker-entrypoint.sh minio server /export",
        1
    )]
    #[case(
        "pgsty/silo:RELEASE.2026-09-16T00-00-00Z",
        "/usr/bin/docker-entrypoint.sh silo server /export",
        0
    )]
    #[case("pgsty/silo:RELEASE.2026-09-16T00-00-00Z", "server /export", 0)]
    #[case(
        "minio/minio:RELEASE.2024-12-18T13-15-44Z",
        "/usr/bin/docker-entrypoint.sh minio server /export",
        0
    )]
    #[case(
        "quay.io/minio/minio:RELEASE.2024-12-18T13-15-44Z",
        "silo server /data",
        1
    )]
    #[case(
        "pgsty/silo:RELEASE.2026-09-16T00-00-00Z",
        "/usr/bin/docker-entrypoint.sh minio -S /etc/minio/certs/ server /export",
        1
    )]
    #[case(
        "pgsty/silo:RELEASE.2026-09-16T00-00-00Z",
        "mkdir -p /data/minio && /opt/bin/silo -S /etc/minio server /data/minio",
        0
    )]
    fn programs_of_object_stores(#[case] image: &str, #[case] command: &str, #[case] found: usize) {
        let after = Fixture::cluster("2.6.11").object(&format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: my-release-minio}}\nspec:\n  selector:\n    matchLabels: {{app: minio, release: my-release}}\n  template:\n    spec:\n      containers: [{{name: minio, image: \"{image}\", command: [/bin/sh, -ce, \"{command}\"]}}]\n"
        ));
        let findings = judge(&RULE, None, &after);
        assert_eq!(findings.len(), found, "{findings:?}");
        assert!(
            findings
                .iter()
                .all(|finding| finding.severity == Severity::Warn)
        );
    }
}
