//! Consent to a change: `--yes`, or a question at a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use milvus_guard_operations::engine::{Cancellation, End};

use super::exit::Failure;

/// How the user consents to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// By `--yes`, or in the Job that an agreed command made.
    Given,
    /// By a question at the terminal, after the plan was shown.
    Ask,
}

impl Consent {
    /// Consent for `verb`, which changes `object`.
    ///
    /// # Errors
    /// Wrong usage if `is_given` is false and there is no terminal to ask at.
    pub(super) fn of(verb: &str, object: &str, is_given: bool) -> Result<Self, Failure> {
        if is_given {
            return Ok(Self::Given);
        }
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            return Ok(Self::Ask);
        }
        Err(Failure::usage(format!(
            "{verb} changes {object}, and cannot ask for confirmation without a terminal. \
             Nothing was changed. Next: the same command with --dry-run shows the plan, with --yes \
             it carries it out"
        )))
    }
}

/// The question of every verb that changes something.
const QUESTION: &str = "Continue? [y/N] ";

/// Whether an answer means yes.
fn is_yes(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Shows the plan and asks.
///
/// # Errors
/// The end of the command if the answer is not yes, or a signal stops the process.
pub(super) async fn ask(plan: &str, cancellation: &Cancellation) -> Result<(), End> {
    let mut screen = io::stderr();
    let _ = write!(screen, "{plan}\n{QUESTION}");
    let _ = screen.flush();
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let agrees = tokio::select! {
        answer = answer => {
            matches!(answer, Ok(Ok(answer)) if is_yes(&answer))
        }
        _ = cancellation.cancelled() => false,
    };
    agrees
        .then_some(())
        .ok_or_else(|| End::Refused("Nothing was changed.".into()))
}
