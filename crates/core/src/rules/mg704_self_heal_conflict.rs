//! MG704: a tool that puts things back must not put back the upgrade's own steps.

use crate::{change::Upgrade, evidence::DeployerFact, milvus::Topology};

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG704",
    name: "self-heal-conflict",
    title: "no deployment tool works against the upgrade",
    category: Category::Cluster,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[Behavior::PlannedByRun, Behavior::HandledByUpgrade],
    since: "0.1.0",
    needs: &[Need::Before, Need::VersionChange, Need::Deployers],
    what: "Warns about Argo CD self-heal and Flux drift correction on the release, and about \
           retries that end before an ordered rollout can complete.",
    why: "The tool reverts replicas that the migration set to zero, or images that the ordered \
          upgrade changed, within minutes. A tool that gives up early leaves the rollout \
          incomplete.",
    example: "An Argo CD Application with selfHeal: true and the default of five retries.",
    fix: "Suspend the tool during the upgrade, or let it retry until the rollout completes.",
    sources: &["Argo CD sync policy", "Flux HelmRelease drift detection"],
    check,
};

/// Retries with the tools' own backoff that last as long as a roll of eight components usually
/// takes.
const ENOUGH_RETRIES: i64 = 20;

/// How the tool is kept from reverting the steps.
fn suspend(deployer: &DeployerFact) -> String {
    let name = &deployer.name;
    if deployer.tool == "flux" {
        format!("Suspend HelmRelease {name} during the upgrade (spec.suspend: true).")
    } else {
        format!(
            "Disable self-heal of Application {name} during the upgrade \
             (spec.syncPolicy.automated.selfHeal: false)."
        )
    }
}

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let (Some((before, after)), Some((from, to))) = (upgrade.both(), upgrade.versions()) else {
        return;
    };
    findings.not_applicable("neither Argo CD nor Flux applies the release");
    for deployer in upgrade
        .facts
        .deployers
        .iter()
        .flatten()
        .filter(|deployer| deployer.release == before.name)
    {
        findings.checked();
        if deployer.self_heal {
            findings
                .warn(format!(
                    "{} {} would revert what the steps from {from} to {to} change",
                    deployer.tool, deployer.name
                ))
                .evidence_from("self-heal", Some("on".into()), None, &deployer.name)
                .fix(suspend(deployer));
        }
        let gives_up = deployer.tool == "argo-cd"
            && deployer
                .retry_limit
                .is_none_or(|limit| (0..ENOUGH_RETRIES).contains(&limit));
        if gives_up
            && after.topology() == Topology::Cluster
            && from.version.line() != to.version.line()
        {
            let retries = deployer
                .retry_limit
                .map_or_else(|| "its default of 5".to_owned(), |limit| limit.to_string());
            findings
                .warn(format!(
                    "{} {} gives up after {retries} retries, before an ordered rollout can \
                     complete",
                    deployer.tool, deployer.name
                ))
                .evidence_from("retry.limit", Some(retries), None, &deployer.name)
                .fix(format!(
                    "Set retry.limit: -1 and retry.backoff.maxDuration: 3m under spec.syncPolicy of Application {}.",
                    deployer.name
                ));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        evidence::{DeployerFact, Facts},
        rules::testing::{Fixture, judge_with},
    };

    #[rstest]
    #[case("argo-cd", true, Some(-1), 1)]
    #[case("argo-cd", false, None, 1)]
    #[case("argo-cd", true, Some(5), 2)]
    #[case("argo-cd", false, Some(-1), 0)]
    #[case("flux", true, None, 1)]
    #[case("flux", false, Some(3), 0)]
    fn tools(
        #[case] tool: &str,
        #[case] self_heal: bool,
        #[case] retry_limit: Option<i64>,
        #[case] found: usize,
    ) {
        let deployer = DeployerFact {
            release: "my-release".into(),
            tool: tool.into(),
            name: "apps/milvus".into(),
            self_heal,
            retry_limit,
        };
        let facts = Facts {
            deployers: Some(vec![deployer]),
            ..Facts::default()
        };
        assert_eq!(
            judge_with(
                &RULE,
                Some(&Fixture::cluster("2.4.24")),
                &Fixture::cluster("2.5.27"),
                &facts
            )
            .len(),
            found
        );
    }
}
