//! The guard's own documents: policies and exceptions must be in order, runs and decisions come
//! from their makers only.

use crate::{
    manifest::{Node, Tree},
    policy::{
        lint::{Severity, lint},
        read::from_node,
    },
};

use super::{
    object::ObjectError,
    review::{Operation, Response, Review},
    review_state::{CLEANERS, ReviewState},
    ruling::Ruling,
};

/// One document that would change.
#[derive(Debug)]
pub struct DocumentTask {
    resource: String,
    operation: Operation,
    user: String,
    document: Option<Node>,
}

impl DocumentTask {
    /// Reads the document; `None` if it needs no judgement.
    ///
    /// # Errors
    /// Where a policy or an exception cannot be read.
    pub(super) fn of(review: &Review<'_>) -> Result<Option<Self>, ObjectError> {
        let document = match (&*review.resource.resource, &*review.sub_resource) {
            ("upgradepolicies" | "upgradeexceptions", "")
                if review.operation != Operation::Delete =>
            {
                let Some(raw) = review.object else {
                    return Ok(None);
                };
                Some(serde_json::from_str::<Tree<'_>>(raw.get())?.into_owned())
            }
            ("upgraderuns" | "releasedecisions", _) => None,
            _ => return Ok(None),
        };
        Ok(Some(Self {
            resource: review.resource.resource.to_string(),
            operation: review.operation,
            user: review.user_info.username.to_string(),
            document,
        }))
    }

    /// Judges the document.
    #[must_use]
    pub fn judge(&self, state: &ReviewState<'_>) -> Ruling {
        let Some(document) = &self.document else {
            return self.judge_maker(state);
        };
        let document = match from_node(&without_status(document), "the document") {
            Ok(document) => document,
            Err(error) => {
                return Ruling::of(Response::deny(format!("milvus-guard: {}", error.message)));
            }
        };
        let found = lint(&[document], state.now);
        let errors: Vec<String> = texts(&found, Severity::Error);
        let warnings = texts(&found, Severity::Warning);
        let mut response = Response {
            warnings,
            ..Response::default()
        };
        if !errors.is_empty() {
            response.denied = Some(format!("milvus-guard: {}", errors.join("; ")));
        }
        Ruling::of(response)
    }

    /// Evidence and decisions are believed, so only those who make them may write them.
    fn judge_maker(&self, state: &ReviewState<'_>) -> Ruling {
        let accounts = state.accounts;
        // A decision only lets something through: anyone who has the right to delete one takes
        // nothing from anybody's safety.
        let closes = self.resource == "releasedecisions";
        let cleans =
            self.operation == Operation::Delete && (closes || CLEANERS.contains(&&*self.user));
        if cleans || self.user == accounts.guard || self.user == accounts.job {
            return Ruling::pass();
        }
        Ruling::of(Response::deny(format!(
            "milvus-guard: {} are written by milvus-guard itself ({} or {}), because the guard \
             trusts them; milvus-guard status shows a run, milvus-guard upgrade or \
             migrate with -o abort ends one",
            self.resource, accounts.guard, accounts.job
        )))
    }
}

/// The document as its author wrote it: what the API server adds is not part of it.
fn without_status<'a>(document: &Tree<'a>) -> Tree<'a> {
    use crate::manifest::node::Kind;
    match &document.kind {
        Kind::Mapping(entries) => Tree {
            line: 0,
            kind: Kind::Mapping(
                entries
                    .iter()
                    .filter(|(key, _)| &**key != "status")
                    .cloned()
                    .collect(),
            ),
        },
        _ => document.clone(),
    }
}

fn texts(found: &[crate::policy::lint::Lint], severity: Severity) -> Vec<String> {
    found
        .iter()
        .filter(|lint| lint.severity == severity)
        .map(|lint| lint.message.clone())
        .collect()
}
