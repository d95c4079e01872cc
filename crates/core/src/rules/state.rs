//! The outcome of a rule for one release: a rule passes only if it checked something.

use std::borrow::Cow;

/// How a rule came out for one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The rule compared something and it is right.
    Passed,
    /// There is nothing for the rule to check; the reason as text.
    NotApplicable(Cow<'static, str>),
    /// The rule applies, but a fact is missing.
    NotEvaluated(Missing),
    /// The rule has findings.
    Found,
}

/// A fact that a rule needs and the input does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    what: Cow<'static, str>,
    provide: Cow<'static, str>,
    momentary: bool,
}

impl Missing {
    /// `what` fits after "not evaluated: "; `provide` is a sentence that says how to provide it.
    pub fn new(what: impl Into<Cow<'static, str>>, provide: impl Into<Cow<'static, str>>) -> Self {
        Self {
            what: what.into(),
            provide: provide.into(),
            momentary: false,
        }
    }

    /// The same for a constant.
    #[must_use]
    pub const fn fact(what: &'static str, provide: &'static str) -> Self {
        Self {
            what: Cow::Borrowed(what),
            provide: Cow::Borrowed(provide),
            momentary: false,
        }
    }

    /// A fact without which the rule only leaves out an advice: its absence never makes a warning.
    #[must_use]
    pub const fn minor(what: &'static str, provide: &'static str) -> Self {
        Self {
            what: Cow::Borrowed(what),
            provide: Cow::Borrowed(provide),
            momentary: true,
        }
    }

    /// A fact that is true only at the moment of the change, such as a run in progress: files
    /// cannot hold it, and anyone who makes the change asks for it again. It never makes a warning,
    /// because a check of files could then never be without one.
    #[must_use]
    pub const fn momentary(what: &'static str, provide: &'static str) -> Self {
        Self {
            what: Cow::Borrowed(what),
            provide: Cow::Borrowed(provide),
            momentary: true,
        }
    }

    /// What is missing, as a phrase.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How to provide it, as a sentence.
    #[must_use]
    pub fn provide(&self) -> &str {
        &self.provide
    }

    /// Whether its absence never makes a warning.
    #[must_use]
    pub const fn is_momentary(&self) -> bool {
        self.momentary
    }
}
