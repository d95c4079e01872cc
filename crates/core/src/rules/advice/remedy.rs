//! What to do, as data: sentences, and the values or the upgrade that would take a finding away.

/// What to do, and what would take the finding away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedy {
    /// In words: one or more sentences.
    pub text: String,
    /// What would take the finding away, if a command can do it.
    pub cure: Option<Cure>,
}

/// What would take a finding away. Commands are made of it once all rules have
/// spoken (see `settle`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Values of the chart in the wanted change.
    Values(Vec<ChartPin>),
    /// `milvus-guard upgrade` upgrades the release to the target version, component by component.
    OrderedUpgrade,
}

/// A value of a chart: its path from the root of the Milvus chart, and the value as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartPin {
    /// Path with dots, such as `standalone.messageQueue`.
    pub path: String,
    /// The value.
    pub value: String,
}

impl ChartPin {
    /// A pin.
    #[must_use]
    pub fn new(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: value.into(),
        }
    }

    /// Reads `path=value`, as the tables write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.split_once('=')
            .map(|(path, value)| Self::new(path, value))
    }
}

impl Remedy {
    /// Words only.
    pub fn words(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            cure: None,
        }
    }

    /// The same with more words behind.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        if !more.is_empty() {
            self.text.push(' ');
            self.text.push_str(more);
        }
        self
    }
}
