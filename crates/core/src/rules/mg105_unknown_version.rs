//! MG105: an image should say which Milvus it holds.

use crate::{
    change::Upgrade,
    milvus::{Version, catalogue::Situation, release::VersionRead},
};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG105",
    name: "unknown-version",
    title: "every image has a version that can be read",
    category: Category::Version,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[Behavior::SelfAcceptable],
    since: "0.1.0",
    needs: &[Need::After],
    what: "Warns if no version can be read from an image: latest, master-..., other words, or a \
           digest alone. Warns if the digest changes under the same tag: the image was replaced.",
    why: "Without a version the upgrade path cannot be checked, and a moving tag may start another \
          version of Milvus at any restart.",
    example: "image: milvusdb/milvus:latest",
    fix: "Use a released tag such as v2.5.27, or declare the version of the image with the annotation \
          guard.milvus.io/declared-version: \"2.5.27 for IMAGE\" on the workload.",
    sources: &["milvus#22060"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if !upgrade.after.components.is_empty() {
        findings.checked();
    }
    let mut images: Vec<String> = Vec::new();
    for component in upgrade
        .after
        .components
        .iter()
        .filter(|component| component.version() == VersionRead::Unknown)
    {
        let image = component.image().to_string();
        if images.contains(&image) {
            continue;
        }
        let example = example(upgrade);
        let running = upgrade
            .before
            .and_then(|before| before.of(component.component).next())
            .map(|before| before.image().to_string());
        findings
            .warn(format!("the version of {image} cannot be read"))
            .on(component)
            .evidence(
                "image",
                running,
                Some(image.clone()),
                Some(&component.workload.meta.origin),
            )
            .fix(format!(
                "Use the tag of the release that the image contains, such as v{example}, or set \
                 the annotation guard.milvus.io/declared-version: \"{example} for {image}\"."
            ));
        images.push(image);
    }
    for (old, new) in upgrade.changed_pairs() {
        let (was, is) = (old.image(), new.image());
        let (Some(tag), Some(before), Some(after)) = (&is.tag, &was.digest, &is.digest) else {
            continue;
        };
        let image = is.to_string();
        if was.path() != is.path()
            || was.tag.as_ref() != Some(tag)
            || before == after
            || images.contains(&image)
        {
            continue;
        }
        findings
            .warn(format!(
                "the digest behind the tag {tag} of {} would change, so the tag does not \
                           identify the version",
                is.path()
            ))
            .on(new)
            .evidence(
                "image digest",
                Some(before.clone()),
                Some(after.clone()),
                Some(&new.workload.meta.origin),
            )
            .fix(
                "Find out why the image behind the tag was replaced. Use a tag that is never \
                  pushed again.",
            );
        images.push(image);
    }
}

/// A release to give as an example: of the line that runs, or that other components have. `2.5.27`
/// if neither is known: the newest line would invite to cross a major version unseen.
fn example(upgrade: &Upgrade<'_>) -> Version {
    let situation = Situation::after(upgrade.before, upgrade.after);
    let known = upgrade
        .builds_before()
        .last()
        .or_else(|| upgrade.builds_after().last());
    let line = known.map(|build| build.version.line());
    line.and_then(|line| upgrade.catalogue.target(line, known, &situation))
        .unwrap_or(Version::new(2, 5, 27))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        milvus::Component,
        rules::testing::{Fixture, judge},
    };

    #[rstest]
    #[case("latest")]
    #[case("master-20250101-abcdef12")]
    #[case("stable")]
    #[case("@sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a")]
    fn images_without_a_version(#[case] tag: &str) {
        assert_eq!(
            judge(&RULE, None, &Fixture::cluster("2.5.5").tag(tag)).len(),
            1
        );
    }

    #[rstest]
    #[case("v2.5.5")]
    #[case("2.5.5-gpu")]
    #[case("v2.5.5@sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a")]
    #[case("2.6-20260604-7aac2a2c")]
    fn images_with_one(#[case] tag: &str) {
        assert!(judge(&RULE, None, &Fixture::cluster("2.5.5").tag(tag)).is_empty());
    }

    #[rstest]
    #[case("v2.5.5@sha256:aa", "v2.5.5@sha256:bb", 1)]
    #[case("2.5.5-gpu@sha256:aa", "2.5.5-gpu@sha256:bb", 1)]
    #[case("v2.5.5@sha256:aa", "v2.5.5@sha256:aa", 0)]
    #[case("v2.5.5@sha256:aa", "v2.5.6@sha256:bb", 0)]
    #[case("v2.5.5", "v2.5.5@sha256:bb", 0)]
    fn a_digest_that_changes_under_one_tag_is_another_image(
        #[case] old: &str,
        #[case] new: &str,
        #[case] count: usize,
    ) {
        let digest = |tag: &str| {
            Fixture::standalone("2.5.5")
                .tag(&tag.replace("sha256:", &format!("sha256:{}", "0".repeat(62))))
        };
        assert_eq!(judge(&RULE, Some(&digest(old)), &digest(new)).len(), count);
    }

    #[test]
    fn the_example_is_of_the_line_that_runs() {
        let after = Fixture::standalone("2.4.24").tag("latest");
        let fix = |before: Option<&Fixture>| judge(&RULE, before, &after)[0].fix.text.to_string();
        assert!(fix(Some(&Fixture::standalone("2.4.5"))).starts_with(
            "Use the tag of the release that the image contains, such as v2.4.24, \
                              "
        ));
        assert!(
            fix(Some(&Fixture::standalone("2.6.1")))
                .contains("\"2.6.24 for milvusdb/milvus:latest\"")
        );
        assert!(fix(None).starts_with(
            "Use the tag of the release that the image contains, such as v2.5.27, \
                              "
        ));
    }

    #[test]
    fn a_declaration_settles_it_for_its_image_only() {
        let declared = |image: &str| {
            Fixture::standalone("2.5.5").tag("latest").annotation(
                Component::Standalone,
                &format!("guard.milvus.io/declared-version: \"2.5.27 for {image}\""),
            )
        };
        let right = declared("milvusdb/milvus:latest");
        assert!(judge(&RULE, None, &right).is_empty());
        assert_eq!(right.release().highest().unwrap().to_string(), "2.5.27");
        assert_eq!(
            judge(&RULE, None, &declared("milvusdb/milvus:stable")).len(),
            1
        );
    }
}
