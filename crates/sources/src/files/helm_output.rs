//! Output of Helm for people: `helm install --dry-run`, `helm upgrade --dry-run`, `helm get all`
//! and `helm status`.
//!
//! The format is that of Helm's status printer (`pkg/cmd/status.go` of Helm 4, `cmd/helm/status.go`
//! of Helm 3): a head (`NAME:`, `NAMESPACE:`, `STATUS:`, `REVISION:` ...), then sections that begin
//! with a title on a separate line. Some sections may be missing: values are printed only with
//! `--debug`, hooks and manifest not in `helm status`.

/// Titles of the sections in their order.
const TITLES: [&str; 5] = [
    "USER-SUPPLIED VALUES:",
    "COMPUTED VALUES:",
    "HOOKS:",
    "MANIFEST:",
    "NOTES:",
];
const USER_VALUES: usize = 0;
const HOOKS: usize = 2;
const MANIFEST: usize = 3;

/// What Helm printed about one release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HelmOutput<'a> {
    /// Name of the release.
    pub(super) name: &'a str,
    /// Namespace of the release.
    pub(super) namespace: Option<&'a str>,
    /// Revision number.
    pub(super) revision: u64,
    /// `deployed`, `pending-upgrade` ...
    pub(super) status: &'a str,
    /// Name and version of the chart, if printed.
    pub(super) chart: Option<(&'a str, &'a str)>,
    /// The values that the user set, if printed.
    pub(super) user_values: Option<Section<'a>>,
    /// The hooks.
    pub(super) hooks: Option<Section<'a>>,
    /// The manifest.
    pub(super) manifest: Option<Section<'a>>,
}

/// Lines between two titles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section<'a> {
    pub(super) text: &'a str,
    /// Number of lines of the whole text before the section.
    pub(super) lines: usize,
}

impl Section<'_> {
    /// The text after as many empty lines as precede it, so that line numbers are those of the
    /// whole text.
    pub(super) fn padded(&self) -> String {
        let mut padded = "\n".repeat(self.lines);
        padded.push_str(self.text);
        padded
    }
}

/// The parts of Helm's output; `None` if the text is something else.
pub(super) fn read(text: &str) -> Option<HelmOutput<'_>> {
    // Most inputs are manifests, and large; this check excludes them in one pass.
    if !text.contains("REVISION: ") {
        return None;
    }
    let mut output = HelmOutput::default();
    let (mut revision, mut chart, mut chart_version) = (None, None, None);
    let mut open: Option<(usize, usize, usize)> = None;
    let mut position = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let start = position;
        position += line.len();
        let line = line.trim_end();
        let next = open.map_or(0, |(title, ..)| title + 1);
        let title = TITLES
            .iter()
            .skip(next)
            .position(|title| *title == line)
            .map(|at| at + next);
        if let Some(title) = title {
            if open.is_none()
                && (output.name.is_empty() || output.status.is_empty() || revision.is_none())
            {
                return None;
            }
            close(&mut output, text, open, start);
            open = Some((title, position, number + 1));
        } else if open.is_none() {
            let value = |key: &str| {
                line.strip_prefix(key)
                    .map(str::trim)
                    .filter(|value| !value.is_empty())
            };
            if let Some(name) = value("NAME: ") {
                output.name = name;
            } else if let Some(namespace) = value("NAMESPACE: ") {
                output.namespace = Some(namespace);
            } else if let Some(status) = value("STATUS: ") {
                output.status = status;
            } else if let Some(number) = value("REVISION: ") {
                revision = Some(number.parse().ok()?);
            } else if let Some(name) = value("CHART: ") {
                chart = Some(name);
            } else if let Some(version) = value("VERSION: ") {
                chart_version = Some(version);
            } else if line.starts_with("---") || line.starts_with("apiVersion:") {
                return None;
            }
        }
    }
    close(&mut output, text, open, text.len());
    output.revision = revision?;
    output.chart = chart.zip(chart_version);
    Some(output).filter(|output| !output.name.is_empty() && !output.status.is_empty())
}

fn close<'a>(
    output: &mut HelmOutput<'a>,
    text: &'a str,
    open: Option<(usize, usize, usize)>,
    end: usize,
) {
    let Some((title, from, lines)) = open else {
        return;
    };
    let section = text.get(from..end).map(|text| Section { text, lines });
    match title {
        USER_VALUES => output.user_values = section,
        HOOKS => output.hooks = section,
        MANIFEST => output.manifest = section,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const HEAD: &str = "NAME: r\nLAST DEPLOYED: Sat Nov 28 10:00:00 2026\nNAMESPACE: milvus\nSTATUS: pending-upgrade\nREVISION: 7\n";

    #[rstest]
    #[case::upgrade(
        "Release \"r\" has been upgraded. Happy Helming!\n",
        "TEST SUITE: None\n",
        "HOOKS:\n",
        ""
    )]
    #[case::with_notes(
        "",
        "TEST SUITE: None\n",
        "HOOKS:\n",
        "\nNOTES:\nMANIFEST:\nread this\n"
    )]
    #[case::debug(
        "",
        "USER-SUPPLIED VALUES:\na: 1\n\nCOMPUTED VALUES:\na: 1\nb: 2\n\n",
        "HOOKS:\n",
        ""
    )]
    #[case::hooks(
        "",
        "TEST SUITE: None\n",
        "HOOKS:\n---\n# Source: a\nkind: Job\n",
        "\nNOTES:\nx\n"
    )]
    #[case::without_hooks("", "", "", "")]
    #[case::get_all(
        "",
        "CHART: milvus\nVERSION: 4.2.57\nAPP_VERSION: 2.5.12\nTEST SUITE: None\nUSER-SUPPLIED VALUES:\nnull\n\n",
        "",
        ""
    )]
    fn every_form_of_output_is_read(
        #[case] before: &str,
        #[case] more: &str,
        #[case] hooks: &str,
        #[case] after: &str,
    ) {
        let manifest = "---\n# Source: milvus/templates/config.yaml\nkind: ConfigMap\n";
        for line_end in ["\n", "\r\n"] {
            let text = format!("{before}{HEAD}{more}{hooks}MANIFEST:\n{manifest}{after}")
                .replace('\n', line_end);
            let output = read(&text).expect("Helm's output");
            assert_eq!(
                (output.name, output.namespace, output.revision),
                ("r", Some("milvus"), 7)
            );
            assert_eq!(output.status, "pending-upgrade");
            let section = output.manifest.expect("a manifest");
            assert_eq!(
                section.text.replace("\r\n", "\n").trim_end(),
                manifest.trim_end()
            );
            let line = text
                .lines()
                .position(|line| line == "MANIFEST:")
                .expect("a title")
                + 1;
            assert_eq!(section.lines, line);
            assert_eq!(output.user_values.is_some(), more.contains("USER-SUPPLIED"));
            assert_eq!(output.hooks.is_some(), !hooks.is_empty());
        }
    }

    #[rstest]
    #[case("kind: ConfigMap\ndata:\n  x: |\n    REVISION: 3\n")]
    #[case("REVISION: 3\n")]
    #[case("NAME: a\nSTATUS: b\nREVISION: c\n")]
    #[case("MANIFEST:\nNAME: a\nSTATUS: b\nREVISION: 1\n")]
    #[case("---\nNAME: a\nSTATUS: b\nREVISION: 1\n")]
    fn other_texts_are_not_output_of_helm(#[case] text: &str) {
        assert_eq!(read(text), None);
    }

    #[test]
    fn helm_status_prints_no_manifest() {
        let text = format!("{HEAD}TEST SUITE: None\nNOTES:\nMANIFEST:\n");
        let output = read(&text).expect("Helm's output");
        assert_eq!((output.manifest, output.user_values), (None, None));
    }

    #[test]
    fn the_chart_is_read_if_it_is_printed() {
        let text = format!("{HEAD}CHART: milvus\nVERSION: 4.2.57\nMANIFEST:\n");
        let output = read(&text).expect("Helm's output");
        assert_eq!(output.chart, Some(("milvus", "4.2.57")));
    }
}
