//! MG305: data that lies on a volume must stay on it.

use crate::{
    manifest::object::{VolumeSource, Workload},
    upgrade::Upgrade,
};

use super::{Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG305",
    name: "persistence-lost",
    title: "volumes that hold data stay",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Denies a change after which a standalone, etcd, object storage or queue would run without its volume or on another one.",
    why: "The pod starts on an empty directory: RocksMQ and local data of a standalone, metadata, or messages are gone for Milvus.",
    example: "standalone.persistence.enabled=false, or another existingClaim.",
    fix: "Keep the volume as it is; copy the data while Milvus is stopped if it must move to another one.",
    sources: &["milvus#18574", "milvus#36094"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else { return };
    if let Some(gone) = upgrade.deletes.filter(|object| object.kind == "PersistentVolumeClaim")
        && let Some(claim) = before.claims.iter().find(|claim| claim.meta.object.name == gone.name)
        && !before.is_stopped()
    {
        findings
            .deny(format!("the claim {} would be deleted while {} runs", gone.name, before.name))
            .because("The volume goes with its claim, and with it what Milvus keeps there.")
            .object(&claim.meta)
            .fix("Stop or uninstall Milvus first, and keep a backup of the volume.");
    }
    // Cluster components keep only caches and logs; their data is elsewhere.
    let standalone = |release: &'_ crate::milvus::Release| {
        release.of(crate::milvus::Component::Standalone).map(|component| component.workload.clone()).next()
    };
    if let (Some(old), Some(new)) = (standalone(before), standalone(after)) {
        compare(upgrade, &old, &new, "the standalone", findings);
    }
    for (old, new) in upgrade.changed_dependencies() {
        compare(upgrade, &old.workload, &new.workload, &format!("{} {}", old.family, old.workload.meta.object.name), findings);
    }
    for claim in &before.claims {
        let shrunk = after.claims.iter().find(|other| other.meta.object.name == claim.meta.object.name).and_then(|other| {
            let (old, new) = (claim.storage.as_deref()?, other.storage.as_deref()?);
            (quantity(new)? < quantity(old)?).then(|| (other, old.to_owned(), new.to_owned()))
        });
        if let Some((other, old, new)) = shrunk {
            findings
                .deny(format!("the claim {} would shrink from {old} to {new}", claim.meta.object.name))
                .because("Kubernetes refuses to shrink a claim, so the upgrade would fail half-way.")
                .object(&other.meta)
                .evidence("storage", Some(old.clone()), Some(new), Some(&other.meta.origin))
                .fix(format!("Keep the size at {old} or above."));
        }
    }
}

fn compare(upgrade: &Upgrade<'_>, old: &Workload, new: &Workload, what: &str, findings: &mut Findings) {
    for (name, claim) in claims(old) {
        let is_log = old.pod.containers.iter().flat_map(|container| &container.mounts).any(|(volume, path)| *volume == name && path.contains("logs"));
        if is_log {
            continue;
        }
        let now = claims(new).into_iter().find(|(other, _)| *other == name).map(|(_, claim)| claim);
        let message = match &now {
            Some(other) if *other == claim => continue,
            Some(other) => format!("{what} would move from volume claim {claim} to {other}"),
            // Under another volume name the same claim is the same data.
            None if claims(new).iter().any(|(_, other)| *other == claim) => continue,
            None => format!("{what} would lose its volume claim {claim}"),
        };
        let object = format!("{} {}", new.meta.object.kind, new.meta.object.name);
        findings
            .deny(message)
            .object(&new.meta)
            .evidence("volume claim", Some(claim), now, Some(&new.meta.origin))
            .remedy(upgrade.advice().keep_volumes(&object));
    }
}

/// Volumes with the claim behind each; a claim template counts under its own name.
fn claims(workload: &Workload) -> Vec<(String, String)> {
    let templates = workload.stateful.iter().flat_map(|stateful| &stateful.claim_templates);
    let templates = templates.map(|template| (template.name.clone(), format!("template {}", template.name)));
    let volumes = workload.pod.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Claim(claim) => Some((volume.name.clone(), claim.clone())),
        _ => None,
    });
    volumes.chain(templates).collect()
}

/// A Kubernetes quantity in bytes, as far as storage sizes are written.
fn quantity(text: &str) -> Option<u128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let factor: f64 = match &text[digits..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "Pi" => 1024.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are positive and far below the limit")]
    Some((number * factor) as u128)
}

#[cfg(test)]
mod tests {
    use super::{RULE, quantity};
    use crate::{
        milvus::Component::Standalone,
        rules::testing::{Fixture, judge},
    };

    fn with_claim(claim: &str) -> Fixture {
        Fixture::standalone("2.4.17")
            .pod(Standalone, &format!("volumes:\n  - name: milvus-data-disk\n    persistentVolumeClaim: {{claimName: {claim}}}"))
    }

    #[test]
    fn a_standalone_without_its_volume_is_denied() {
        let findings = judge(&RULE, Some(&with_claim("my-release-milvus")), &Fixture::standalone("2.4.24"));
        assert_eq!(findings[0].message, "the standalone would lose its volume claim my-release-milvus");
        let findings = judge(&RULE, Some(&with_claim("my-release-milvus")), &with_claim("other"));
        assert_eq!(findings[0].message, "the standalone would move from volume claim my-release-milvus to other");
    }

    #[test]
    fn a_dependency_without_its_template_is_denied() {
        let etcd = |claims: bool| {
            let yaml = format!(
                "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: my-release-etcd}}\nspec:\n  selector:\n    matchLabels: {{app.kubernetes.io/name: etcd, app.kubernetes.io/instance: my-release}}\n  template:\n    spec:\n      containers: [{{name: etcd, image: \"milvusdb/etcd:3.5.5-r2\"}}]\n{}",
                if claims { "  volumeClaimTemplates:\n    - metadata: {name: data}\n" } else { "" }
            );
            Fixture::cluster("2.4.17").object(&yaml)
        };
        assert_eq!(judge(&RULE, Some(&etcd(true)), &etcd(false)).len(), 1);
        assert!(judge(&RULE, Some(&etcd(true)), &etcd(true)).is_empty());
        assert!(judge(&RULE, Some(&etcd(false)), &etcd(true)).is_empty());
    }

    #[test]
    fn the_same_claim_and_log_volumes_are_fine() {
        assert!(judge(&RULE, Some(&with_claim("my-release-milvus")), &with_claim("my-release-milvus")).is_empty());
        let logs = Fixture::standalone("2.4.17")
            .container(Standalone, "volumeMounts:\n  - {name: disk, mountPath: /milvus/logs}")
            .pod(Standalone, "volumes:\n  - name: disk\n    persistentVolumeClaim: {claimName: logs}");
        assert!(judge(&RULE, Some(&logs), &Fixture::standalone("2.4.24")).is_empty());
    }

    #[test]
    fn claims_may_grow_but_not_shrink() {
        let claim = |size: &str| {
            Fixture::standalone("2.4.17").object(&format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: my-release-milvus}}\nspec:\n  accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: {size}}}}}\n"
            ))
        };
        assert_eq!(judge(&RULE, Some(&claim("50Gi")), &claim("5Gi")).len(), 1);
        assert!(judge(&RULE, Some(&claim("5Gi")), &claim("50Gi")).is_empty());
        assert!(quantity("1Ti") > quantity("1000Gi") && quantity("x").is_none());
    }
}
