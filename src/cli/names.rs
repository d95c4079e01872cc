//! Under which name the program was called: `kubectl guard` and `helm guard` are the same file
//! under another name.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

/// Who called, as the first argument tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `milvus-guard`, or any name that is not one of the others.
    Guard,
    /// `kubectl-guard`: kubectl runs it for `kubectl guard`.
    Kubectl,
    /// `helm-guard`: the Helm plugin runs it for `helm guard`.
    Helm,
    /// `helm-guard-post-render`: a post-renderer by its path.
    PostRenderer,
    /// Asked for values by the program that runs the plugin.
    Completes(Plugin),
}

/// A plugin whose values another program offers to a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// `kubectl_complete-guard`: kubectl runs it where a shell completes `kubectl guard`.
    Kubectl,
    /// `plugin.complete` in the folder of the plugin: Helm runs it for `helm guard`.
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
    fn the_name_decides() {
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
