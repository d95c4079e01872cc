use std::ops::Range;

use crate::Error;

/// A server's configuration in its wheel: YAML with comments, mappings indented by two spaces, and
/// in newer wheels placeholders (`{{ name(type): default }}`).
pub(crate) struct Config {
    lines: Vec<String>,
}

impl Config {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// Sets the value at a path like `rocksmq.path`. Replaces everything below the key; adds the
    /// key if it is missing.
    pub(crate) fn set(&mut self, path: &str, value: &str) -> Result<(), Error> {
        let (sections, key) = path.rsplit_once('.').unwrap_or(("", path));
        let (mut within, mut indent) = (0..self.lines.len(), 0);
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            let Some(line) = self.find(within, indent, section) else {
                return Err(Error::new(format!(
                    "Milvus's configuration has no section {sections}"
                )));
            };
            within = self.below(line, indent);
            indent += 2;
        }
        let begin = within.start;
        let entry = format!("{:indent$}{key}: {value}", "");
        let replaced = match self.find(within, indent, key) {
            None => begin..begin,
            Some(line) => line..self.below(line, indent).end,
        };
        self.lines.splice(replaced, [entry]);
        Ok(())
    }

    /// The text; placeholders without a new value get their defaults.
    pub(crate) fn text(&self) -> String {
        self.lines
            .iter()
            .map(|line| with_default(line) + "\n")
            .collect()
    }

    fn find(&self, within: Range<usize>, indent: usize, key: &str) -> Option<usize> {
        within.into_iter().find(|line| {
            let text = &self.lines[*line];
            indent_of(text) == Some(indent)
                && text[indent..]
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with(':'))
        })
    }

    /// The lines of the value of the key on this line.
    fn below(&self, line: usize, indent: usize) -> Range<usize> {
        let end = (line + 1..self.lines.len())
            .find(|next| indent_of(&self.lines[*next]).is_some_and(|other| other <= indent));
        line + 1..end.unwrap_or(self.lines.len())
    }
}

/// Number of spaces before a line's content; `None` for an empty line or a comment.
fn indent_of(line: &str) -> Option<usize> {
    let content = line.trim_start();
    (!content.is_empty() && !content.starts_with('#')).then_some(line.len() - content.len())
}

fn with_default(line: &str) -> String {
    let placeholder = line
        .split_once("{{")
        .and_then(|(before, rest)| Some((before, rest.split_once("}}")?)));
    let Some((before, (inside, after))) = placeholder else {
        return line.to_owned();
    };
    let default = inside
        .split_once(':')
        .map_or("", |(_, default)| default.trim());
    format!("{before}{default}{after}")
}

#[cfg(test)]
mod tests {
    use super::Config;

    const TEXT: &str = "\
# The place of metadata.
etcd:
  endpoints:
    - localhost:2379
  log:
    level: {{ etcd_log_level: info }} # only supports some
    path: {{ etcd_log_path }}
  use:
    embed: true

# How it logs.
log:
  level: debug
proxy:
  port: {{ proxy_port(int): 19530 }}
";

    #[test]
    fn values_are_set_where_they_belong() {
        let mut config = Config::new(TEXT);
        for (path, value) in [
            ("etcd.endpoints", "127.0.0.1:1"),
            ("etcd.use.embed", "false"),
            ("log.level", "warn"),
        ] {
            config.set(path, value).expect("a section");
        }
        config.set("proxy.internalPort", "7").expect("a section");
        let expected = "\
# The place of metadata.
etcd:
  endpoints: 127.0.0.1:1
  log:
    level: info # only supports some
    path: 
  use:
    embed: false
log:
  level: warn
proxy:
  internalPort: 7
  port: 19530
";
        assert_eq!(config.text(), expected);
    }

    #[test]
    fn a_missing_section_is_an_error() {
        let error = Config::new(TEXT)
            .set("rocksmq.path", "/")
            .expect_err("no such section");
        assert!(error.to_string().contains("rocksmq"), "{error}");
    }
}
