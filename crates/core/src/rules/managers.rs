//! Who may manage a release, for tests of what is advised to each of them.

use crate::{
    change::Upgrade,
    evidence::Facts,
    milvus::{
        Manager, Release, Version,
        catalogue::Catalogue,
        manager::{ChartSource, Source, Tool, Vendor},
        release::ChartRef,
    },
};

use super::{Finding, run, testing::Fixture};

fn chart(source: ChartSource, tool: Tool) -> Manager {
    Manager {
        source: Source::Chart(source),
        tool,
    }
}

fn alias(name: &str) -> ChartSource {
    ChartSource {
        alias: Some(name.into()),
        ..ChartSource::default()
    }
}

fn bitnami() -> ChartSource {
    ChartSource {
        vendor: Vendor::Bitnami,
        ..ChartSource::default()
    }
}

fn manifests(tool: Tool) -> Manager {
    Manager {
        source: Source::Manifests,
        tool,
    }
}

/// Every manager with a name, the words that its advice must never hold, and what must stand before
/// each value path.
pub(super) fn managers() -> Vec<(&'static str, Manager, Vec<&'static str>, &'static str)> {
    const HELM: [&str; 8] = [
        "helm ",
        "Helm",
        "--set",
        "values file",
        "extraConfigFiles",
        "zilliztech/milvus",
        "milvus-guard upgrade",
        "milvus-guard migrate",
    ];
    const OPERATOR: [&str; 4] = [
        "Milvus resource",
        "spec.dependencies",
        "spec.config",
        "spec.components",
    ];
    const COMMANDS: [&str; 3] = ["helm upgrade", "--set", "zilliztech/milvus"];
    let words = |lists: &[&[&'static str]]| lists.concat();
    let argo = Tool::ArgoCd {
        application: Some("vec".into()),
    };
    let flux = Tool::FluxHelm { name: "vec".into() };
    let kustomization = Tool::FluxKustomize {
        name: "apps".into(),
    };
    vec![
        ("chart", Manager::plain_chart(), words(&[&OPERATOR]), ""),
        (
            "rendered",
            chart(ChartSource::default(), Tool::Rendered),
            words(&[&OPERATOR, &["helm upgrade"]]),
            "",
        ),
        (
            "applied",
            chart(ChartSource::default(), Tool::Applied),
            words(&[&OPERATOR, &COMMANDS]),
            "",
        ),
        (
            "sub-chart",
            chart(alias("milvus"), Tool::Helm),
            words(&[&OPERATOR, &COMMANDS]),
            "milvus.",
        ),
        (
            "alias",
            chart(alias("vectors"), Tool::Helm),
            words(&[
                &OPERATOR,
                &COMMANDS,
                &["milvus-guard upgrade", "milvus-guard migrate"],
            ]),
            "vectors.",
        ),
        (
            "argo",
            chart(ChartSource::default(), argo.clone()),
            words(&[&OPERATOR, &COMMANDS]),
            "",
        ),
        (
            "argo-alias",
            chart(alias("vectors"), argo.clone()),
            words(&[&OPERATOR, &COMMANDS]),
            "vectors.",
        ),
        (
            "flux",
            chart(ChartSource::default(), flux),
            words(&[&OPERATOR, &COMMANDS]),
            "",
        ),
        (
            "bitnami",
            chart(bitnami(), Tool::Helm),
            words(&[
                &OPERATOR,
                &[
                    "helm upgrade",
                    "zilliztech",
                    "extraConfigFiles",
                    "image.all",
                    "Coordinator.",
                    "messageQueue=",
                ],
            ]),
            "",
        ),
        (
            "operator",
            Manager::operator("milvus-prod"),
            words(&[&HELM]),
            "",
        ),
        (
            "kustomize",
            manifests(Tool::Kustomize),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "terraform",
            manifests(Tool::Terraform),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "by hand",
            manifests(Tool::Unknown),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "argo-manifests",
            manifests(argo),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
        (
            "flux-manifests",
            manifests(kustomization),
            words(&[&HELM, &OPERATOR]),
            "",
        ),
    ]
}

/// The manager of this name.
pub(super) fn manager(name: &str) -> Manager {
    managers()
        .into_iter()
        .find(|(other, ..)| *other == name)
        .map(|(_, manager, ..)| manager)
        .unwrap()
}

/// The release as this manager has it.
pub(super) fn managed(fixture: &Fixture, manager: &Manager) -> Release {
    let mut release = fixture.release();
    release.manager = manager.clone();
    match manager.chart() {
        None => release.chart = None,
        Some(source) if source.vendor == Vendor::Bitnami => {
            release.chart = Some(ChartRef {
                name: "milvus".into(),
                version: Version::new(13, 2, 5),
            });
        }
        Some(_) => {}
    }
    release
}

/// What all rules find of a change by this manager.
pub(super) fn found(
    before: &Fixture,
    after: &Fixture,
    manager: &Manager,
    facts: &Facts,
) -> Vec<Finding> {
    let (before, after) = (managed(before, manager), managed(after, manager));
    run(
        &Upgrade::new(Some(&before), &after, facts, Catalogue::embedded()),
        None,
    )
    .findings
}
