//! The name under which the program was called: `kubectl guard` and `helm guard` are the same
//! program under other names.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

/// The name of the program, from the first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `milvus-guard`, or any name that is not one of the others.
    Guard,
    /// `kubectl-guard`: kubectl runs it for `kubectl guard`.
    Kubectl,
    /// `helm-guard`: the Helm plugin runs it for `helm guard`.
    Helm,
    /// `helm-guard-post-render`: for a Helm that takes the path of a post-renderer.
    PostRenderer,
    /// Called by kubectl or Helm for values that complete a command.
    Completes(Plugin),
}

/// A plugin whose values kubectl or Helm offers to a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// `kubectl_complete-guard`: kubectl runs it if a shell completes `kubectl guard`.
    Kubectl,
    /// `plugin.complete` in the plugin's folder: Helm runs it if a shell completes `helm guard`.
    Helm,
}

impl Plugin {
    /// The name under which the plugin itself is called.
    pub(super) const fn name(self) -> Name {
        match self {
            Self::Kubectl => Name::Kubectl,
            Self::Helm => Name::Helm,
        }
    }
}

impl Name {
    pub(super) fn of(program: Option<&OsString>) -> Self {
        let name = program
            .map(Path::new)
            .and_then(Path::file_name)
            .and_then(OsStr::to_str)
            .map(|name| name.strip_suffix(".exe").unwrap_or(name));
        match name {
            Some("kubectl_complete-guard") => Self::Completes(Plugin::Kubectl),
            Some("plugin.complete") => Self::Completes(Plugin::Helm),
            Some("kubectl-guard") => Self::Kubectl,
            Some("helm-guard") => Self::Helm,
            Some("helm-guard-post-render") => Self::PostRenderer,
            _ => Self::Guard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_selects_the_plugin() {
        let of = |name: &str| Name::of(Some(&OsString::from(name)));
        assert_eq!(of("/usr/local/bin/kubectl-guard"), Name::Kubectl);
        assert_eq!(of("helm-guard"), Name::Helm);
        assert_eq!(of("bin/helm-guard-post-render"), Name::PostRenderer);
        assert_eq!(of("bin/kubectl-guard.exe"), Name::Kubectl);
        let completes = Name::Completes(Plugin::Kubectl);
        assert_eq!(of("/bin/kubectl_complete-guard"), completes);
        assert_eq!(of("x/plugin.complete"), Name::Completes(Plugin::Helm));
        assert_eq!(of("milvus-guard"), Name::Guard);
        assert_eq!(of("guard-of-mine"), Name::Guard);
        assert_eq!(Name::of(None), Name::Guard);
    }
}
