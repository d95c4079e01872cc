//! No text of an input changes the elements and attributes of the page.

use proptest::prelude::*;

use super::{
    super::{Report, sample},
    render,
};
use crate::page::testing::{hostile, tags};

/// A report in which every text that comes from an input is this one.
fn filled(text: &str) -> Report {
    let mut report = sample::report();
    let owned = || text.to_owned();
    for release in &mut report.releases {
        release.name = owned();
        release.namespace = Some(owned());
        (release.from, release.to) = (Some(owned()), Some(owned()));
    }
    for finding in &mut report.findings {
        (finding.release, finding.namespace) = (owned(), Some(owned()));
        (finding.message, finding.why) = (owned(), owned().into());
        (finding.fix.text, finding.fix.command) = (owned().into(), Some(owned()));
        (finding.policy, finding.docs_url) = (Some(owned()), owned());
        if let Some(object) = &mut finding.object {
            (object.kind, object.name) = (owned(), owned());
        }
        for evidence in &mut finding.evidence {
            evidence.what = owned();
            (evidence.before, evidence.after) = (Some(owned()), Some(owned()));
            evidence.source = Some(owned());
        }
    }
    for exception in &mut report.exceptions {
        (exception.name, exception.rule) = (owned(), owned());
        (exception.reason, exception.owner) = (owned(), owned());
        (exception.expires, exception.message) = (owned(), owned());
    }
    for check in &mut report.checks {
        for reason in &mut check.reasons {
            reason.reason = owned();
            reason.provide = Some(owned());
        }
    }
    for input in &mut report.inputs {
        (input.role, input.source) = (owned(), owned());
        input.read = vec![owned(), owned()];
        (input.not_read, input.notes) = (vec![owned()], vec![owned()]);
    }
    report.policies = vec![owned()];
    report.data = Some(owned());
    report
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_text_never_becomes_markup(text in hostile()) {
        let page = render(&filled(&text));
        let expected = render(&filled("a name"));
        prop_assert_eq!(tags(&page), tags(&expected));
        let steers = page.contains(['\u{1b}', '\u{202e}', '\u{0}']);
        prop_assert!(!steers);
    }
}

#[test]
fn only_an_https_address_becomes_a_link() {
    let with = |docs: &str| {
        let mut report = sample::report();
        for finding in &mut report.findings {
            finding.docs_url = docs.to_owned();
        }
        render(&report)
    };
    assert!(
        with("https://docs.example.com/MG101")
            .contains("<a href=\"https://docs.example.com/MG101\"")
    );
    for docs in [
        "javascript:alert(1)",
        "docs/rules/MG101.md",
        "data:text/html,x",
    ] {
        assert!(!with(docs).contains("<a "), "{docs}");
    }
}
