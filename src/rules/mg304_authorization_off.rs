//! MG304: an upgrade must not open the database.

use crate::upgrade::Upgrade;

use super::{Category, DefaultAction, Findings, Need, Rule};

const KEY: &str = "common.security.authorizationEnabled";

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG304",
    name: "authorization-off",
    title: "authorization stays on",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    since: "0.1.0",
    needs: &[Need::Before, Need::Config],
    what: "Denies a change after which authorization that was on is no longer on.",
    why: "Everybody who reaches the port can then read, change and drop collections, without any sign of it.",
    example: "authorization.enabled=true was set with chart 3.x; chart 4.x ignores it.",
    fix: "Keep common.security.authorizationEnabled: true.",
    sources: &["milvus-helm README"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    let Some((before, after)) = upgrade.both() else { return };
    if before.config.is_true(KEY) && !after.config.is_true(KEY) {
        let (old, new) = (before.config.get(KEY), after.config.get(KEY));
        findings
            .deny("authorization is on and would be off")
            .setting(KEY, ("true", old), (new.map_or("absent (false)", |setting| setting.value), new))
            .remedy(upgrade.advice().keep_setting(KEY, "true"));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::rules::testing::{Fixture, judge};

    #[rstest]
    #[case("true", "false", true)]
    #[case("true", "", true)]
    #[case("true", "True", false)]
    #[case("false", "true", false)]
    #[case("", "", false)]
    fn switching(#[case] before: &str, #[case] after: &str, #[case] found: bool) {
        let run = |value: &str| {
            Fixture::cluster("2.4.17").user_yaml(&format!("common:\n  security:\n    authorizationEnabled: {value}\n"))
        };
        assert_eq!(!judge(&RULE, Some(&run(before)), &run(after)).is_empty(), found);
    }
}
