//! Texts that are not YAML or JSON, or that contain no objects: web pages, messages of tools,
//! templates, other languages.

use crate::files::helm_output;

use super::{Foreign, shown};

/// Detects by its beginning what a text is: web pages, messages of tools, other languages. Nothing
/// of the text is quoted: messages of tools may contain secret values.
pub(in crate::files) fn of_text(text: &str, path: &str) -> Option<Foreign> {
    let start = text.trim_start();
    let head: String = start
        .chars()
        .take(64)
        .collect::<String>()
        .to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| head.starts_with(word));
    Some(if start.is_empty() {
        Foreign::new(
            "it is empty",
            "The command that wrote it most likely failed; run it again and read its messages",
        )
    } else if begins(&["<!doctype html", "<html", "<?xml"]) {
        Foreign::new(
            "it is an HTML or XML page",
            "Most likely the error page or login page of a web server was saved; download the raw \
             file",
        )
    } else if begins(&["no resources found"]) {
        Foreign::new(
            "it is kubectl's message 'No resources found'",
            "Name the namespace (-n) and write only stdout to the file",
        )
    } else if begins(&[
        "error from server",
        "error:",
        "unable to connect to the server",
    ]) {
        Foreign::new(
            "it is an error message of kubectl or Helm, not the output",
            "Run the command again and read the message",
        )
    } else if is_template(start) {
        Foreign::new(
            "it is a Helm template that is not rendered",
            "Render the chart: helm template NAME CHART --version VERSION -n NAMESPACE -f \
             values.yaml",
        )
    } else if is_hcl(start) {
        Foreign::new(
            "it is a Terraform configuration",
            "Plan it and use the plan as JSON: terraform plan -out=tf.plan && terraform show \
             -json tf.plan",
        )
    } else if head.contains("name:")
        && helm_output::read(text).is_some_and(|output| output.manifest.is_none())
    {
        Foreign::new(
            "it is the output of helm status, which does not contain a manifest",
            "Use the output of: helm get all NAME -n NAMESPACE, or of: helm get manifest NAME -n \
             NAMESPACE",
        )
    } else if start
        .lines()
        .next()
        .is_some_and(|line| line.split_whitespace().next() == Some("NAME") && !line.contains(':'))
    {
        Foreign::new(
            format!("{} is a table for human readers", shown(path)),
            "Request the objects: add -o yaml to the command",
        )
    } else {
        return None;
    })
}

/// Whether a text contains expressions of Helm's templates.
fn is_template(text: &str) -> bool {
    text.contains("{{")
        && [".Values", "include \"", ".Release."]
            .iter()
            .any(|word| text.contains(word))
}

fn is_hcl(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        matches!(
            words.next(),
            Some("resource" | "provider" | "module" | "terraform")
        ) && line.trim_end().ends_with('{')
            && !line.contains(':')
    })
}
