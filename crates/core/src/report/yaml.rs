//! For programs that prefer YAML: the structure as it is.

use super::Report;

pub(super) fn render(report: &Report) -> String {
    serde_saphyr::to_string(report).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::manifest::documents;

    #[test]
    fn snapshot() {
        insta::assert_snapshot!(super::render(&super::super::sample::report()));
    }

    #[test]
    fn it_says_the_same_as_json() {
        let report = super::super::sample::report();
        let yaml = documents(&super::render(&report))
            .next()
            .unwrap()
            .unwrap()
            .root
            .to_json();
        let json: serde_json::Value =
            serde_json::from_str(&super::super::json::render(&report)).unwrap();
        assert_eq!(yaml, json);
    }
}
