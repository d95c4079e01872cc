//! MG304: an upgrade must not open the database.

use crate::change::Upgrade;

use super::{Behavior, Category, DefaultAction, Findings, Need, Rule, guarded_settings, keeping};

const KEY: &str = "common.security.authorizationEnabled";

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG304",
    name: "authorization-off",
    title: "authorization stays enabled",
    category: Category::Configuration,
    default: DefaultAction::Deny,
    data_loss: true,
    behavior: &[Behavior::ComparesSharedData, Behavior::ComparesSettings],
    since: "0.1.0",
    needs: &[Need::Before],
    what: "Denies a change that disables authorization.",
    why: "Anyone who can reach the port can then read, change and drop collections.",
    example: "authorization.enabled=true was set with chart 3.x; chart 4.x ignores it.",
    fix: "Keep common.security.authorizationEnabled: true.",
    sources: &["milvus-helm README"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if guarded_settings::is_missing(upgrade, findings) {
        return;
    }
    findings.not_applicable("authorization is not enabled in the running release");
    for (before, after) in guarded_settings::pairs(upgrade) {
        let on = match before.flag(KEY) {
            Ok(Some(setting)) if setting.is_true() => setting,
            Ok(_) => continue,
            Err(unknown) => {
                findings.not_evaluated(guarded_settings::not_known(KEY, unknown));
                return;
            }
        };
        findings.checked();
        let new = after.flag(KEY);
        let (message, shown) = match new {
            Ok(Some(setting)) if setting.is_true() => continue,
            Ok(Some(setting)) => (
                "authorization is enabled and would be disabled".to_owned(),
                setting.shown().to_owned(),
            ),
            Ok(None) => (
                "authorization is enabled and would be disabled".to_owned(),
                "absent (false)".to_owned(),
            ),
            Err(unknown) => (
                format!("authorization is enabled and would come from {unknown}"),
                "unknown".to_owned(),
            ),
        };
        let origin = new
            .ok()
            .flatten()
            .map_or(on.origin, |setting| setting.origin);
        findings
            .deny(message)
            .evidence(KEY, Some("true".into()), Some(shown), Some(origin))
            .remedy(
                guarded_settings::rows(upgrade, RULE.id)
                    .find(|row| row.key == KEY)
                    .map_or_else(
                        || upgrade.advice().keep_setting(KEY, "true"),
                        |row| keeping::keep(upgrade, row, Some("true")),
                    ),
            );
        return;
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
            Fixture::cluster("2.4.17").user_yaml(&format!(
                "common:\n  security:\n    authorizationEnabled: {value}\n"
            ))
        };
        assert_eq!(
            !judge(&RULE, Some(&run(before)), &run(after)).is_empty(),
            found
        );
    }
}
