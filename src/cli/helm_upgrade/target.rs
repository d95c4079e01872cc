//! The cluster and the namespace that Helm's flags and variables name.
//!
//! Helm takes its global flags out of the command line of a plugin and sets variables instead
//! (`pkg/cli/environment.go` of Helm 3.22 and 4.3). A flag wins over its variable.

use std::{ffi::OsString, path::PathBuf};

use milvus_guard_sources::kubernetes::Overrides;

use crate::cli::{exit::Failure, gather, gather::ClusterArgs};

/// Short flags of Helm without a value.
const SHORT_SWITCHES: &str = "igh";

/// The cluster and namespace of Helm, as far as flags and variables name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct HelmTarget {
    /// `-n`, else `HELM_NAMESPACE`.
    pub(in crate::cli) namespace: Option<String>,
    /// `--kubeconfig`; `KUBECONFIG` is read when a connection is made.
    pub(in crate::cli) kubeconfig: Option<PathBuf>,
    /// `--kube-context`, else `HELM_KUBECONTEXT`.
    pub(in crate::cli) context: Option<String>,
    /// A server and a user that are named in addition to the kubeconfig.
    pub(in crate::cli) overrides: Overrides,
}

impl HelmTarget {
    /// Reads arguments of Helm, and its variables through `variable`.
    pub(in crate::cli) fn of(args: &[String], variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let long = |name: &str| long_value(args, name);
        let either = |flag: &str, name: &str| long(flag).or_else(|| variable(name));
        let overrides = Overrides {
            server: either("--kube-apiserver", "HELM_KUBEAPISERVER"),
            authority: either("--kube-ca-file", "HELM_KUBECAFILE").map(PathBuf::from),
            server_name: either("--kube-tls-server-name", "HELM_KUBETLS_SERVER_NAME"),
            is_unverified: is_unverified(args)
                .unwrap_or_else(|| variable(UNVERIFIED.1).is_some_and(|value| is_true(&value))),
            token: either("--kube-token", "HELM_KUBETOKEN"),
            user: either("--kube-as-user", "HELM_KUBEASUSER"),
            groups: groups(args, variable("HELM_KUBEASGROUPS")),
        };
        Self {
            namespace: short_value(args, 'n')
                .or_else(|| long("--namespace"))
                .or_else(|| variable("HELM_NAMESPACE")),
            kubeconfig: long("--kubeconfig").map(PathBuf::from),
            context: either("--kube-context", "HELM_KUBECONTEXT"),
            overrides,
        }
    }

    /// Whether a cluster is named, and not only the default of the kubeconfig.
    pub(in crate::cli) fn names_cluster(&self) -> bool {
        self.overrides.server.is_some()
            || self.kubeconfig.is_some()
            || self.context.is_some()
            || environment("KUBECONFIG").is_some_and(|value| !value.is_empty())
    }

    /// The cluster, as our own client finds it.
    pub(in crate::cli) fn cluster(&self) -> ClusterArgs {
        ClusterArgs {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            overrides: self.overrides.clone(),
        }
    }

    /// The namespace, else that of the kubeconfig's context, as Helm chooses it.
    pub(in crate::cli) fn namespace(&self) -> Result<String, Failure> {
        let found = gather::namespace(&self.cluster(), self.namespace.as_deref());
        // Helm needs no kubeconfig if a flag or variable names the server.
        found.or_else(|failure| match &self.overrides.server {
            Some(_) => Ok("default".to_owned()),
            None => Err(failure),
        })
    }
}

impl HelmTarget {
    /// The variables by which Helm finds the same place (`pkg/cli/environment.go`). Its own flags
    /// win over them.
    pub(in crate::cli) fn variables(&self) -> Result<Vec<(&'static str, OsString)>, Failure> {
        let Overrides {
            server,
            authority,
            server_name,
            is_unverified,
            token,
            user,
            groups,
        } = &self.overrides;
        let unverified = is_unverified.then(|| "true".to_owned());
        let groups = (!groups.is_empty()).then(|| groups.join(","));
        let namespace = Some(self.namespace()?);
        let authority = authority.clone().map(PathBuf::into_os_string);
        let kubeconfig = self.kubeconfig.clone().map(PathBuf::into_os_string);
        let texts = [
            ("HELM_NAMESPACE", &namespace),
            ("HELM_KUBECONTEXT", &self.context),
            ("HELM_KUBEAPISERVER", server),
            ("HELM_KUBETLS_SERVER_NAME", server_name),
            (UNVERIFIED.1, &unverified),
            ("HELM_KUBETOKEN", token),
            ("HELM_KUBEASUSER", user),
            ("HELM_KUBEASGROUPS", &groups),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, value)| Some((name, OsString::from(value.as_ref()?))));
        let files = [("HELM_KUBECAFILE", authority), ("KUBECONFIG", kubeconfig)];
        let files = files
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        Ok(texts.chain(files).collect())
    }
}

/// Flag and variable that switch the verification of the server off.
const UNVERIFIED: (&str, &str) = (
    "--kube-insecure-skip-tls-verify",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
);

/// The value of the flag; `None` if it is absent.
fn is_unverified(args: &[String]) -> Option<bool> {
    args.iter().rev().find_map(|arg| {
        let rest = arg.strip_prefix(UNVERIFIED.0)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(is_true(value)),
            None => rest.is_empty().then_some(true),
        }
    })
}

/// As Go reads it (`strconv.ParseBool`).
fn is_true(value: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&value)
}

/// The groups of every `--kube-as-group`, else those of the variable.
fn groups(args: &[String], variable: Option<String>) -> Vec<String> {
    let mut groups = Vec::new();
    for (at, arg) in args.iter().enumerate() {
        if arg == "--kube-as-group" {
            groups.extend(args.get(at + 1).cloned());
        } else if let Some(group) = arg.strip_prefix("--kube-as-group=") {
            groups.push(group.to_owned());
        }
    }
    if groups.is_empty() {
        let listed = variable.unwrap_or_default();
        let listed = listed.split(',').map(str::trim);
        groups.extend(listed.filter(|group| !group.is_empty()).map(str::to_owned));
    }
    groups
}

/// The variables of this process.
pub(in crate::cli) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The last value of a flag: `--flag VALUE` or `--flag=VALUE`.
pub(in crate::cli) fn long_value(args: &[String], flag: &str) -> Option<String> {
    args.iter().enumerate().rev().find_map(|(at, arg)| {
        if arg == flag {
            return args.get(at + 1).cloned();
        }
        arg.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned)
    })
}

/// The last value of a short flag: `-n VALUE`, `-nVALUE`, `-n=VALUE`, also behind switches
/// (`-in VALUE`).
pub(in crate::cli) fn short_value(args: &[String], flag: char) -> Option<String> {
    let mut found = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(letters) = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
            continue;
        };
        let letters = letters.trim_start_matches(|letter| SHORT_SWITCHES.contains(letter));
        let Some(letter) = letters.chars().next() else {
            continue;
        };
        let value = &letters[letter.len_utf8()..];
        // The next argument is the value of this flag, even if it looks like a flag.
        let value = match value.strip_prefix('=').unwrap_or(value) {
            "" => rest.next().cloned(),
            value => Some(value.to_owned()),
        };
        if letter == flag {
            found = value;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[rstest]
    #[case("upgrade r c -n milvus", Some("milvus"))]
    #[case("upgrade r c -nmilvus", Some("milvus"))]
    #[case("upgrade r c -n=milvus", Some("milvus"))]
    #[case("upgrade -in milvus r c", Some("milvus"))]
    #[case("upgrade r c --namespace milvus", Some("milvus"))]
    #[case("upgrade r c --namespace=milvus --install", Some("milvus"))]
    #[case("upgrade r c -n first -n last", Some("last"))]
    #[case("upgrade r c -f values-n.yaml -f -n", None)]
    #[case("upgrade r c -fn.yaml", None)]
    #[case("upgrade r c", None)]
    fn namespaces_are_read_as_helm_reads_them(#[case] line: &str, #[case] expected: Option<&str>) {
        let target = HelmTarget::of(&words(line), &nothing);
        assert_eq!(target.namespace.as_deref(), expected);
    }

    #[test]
    fn flags_take_precedence_over_variables() {
        let variables = |name: &str| match name {
            "HELM_NAMESPACE" => Some("search".to_owned()),
            "HELM_KUBECONTEXT" => Some(String::new()),
            "HELM_KUBEINSECURE_SKIP_TLS_VERIFY" => Some("false".to_owned()),
            _ => None,
        };
        let target = HelmTarget::of(&words("upgrade r c -n milvus --kube-context=a"), &variables);
        assert_eq!(target.namespace.as_deref(), Some("milvus"));
        assert_eq!(target.context.as_deref(), Some("a"));
        assert!(target.overrides.is_empty());
        let target = HelmTarget::of(&words("upgrade r c"), &variables);
        assert_eq!(target.namespace.as_deref(), Some("search"));
        assert_eq!(target.context, None);
    }

    #[test]
    fn a_server_and_a_user_are_read_as_helm_reads_them() {
        let line = "upgrade r c --kube-token secret --kube-as-group a --kube-as-group=b \
                    --kube-ca-file=/ca --kube-insecure-skip-tls-verify=false";
        let variables = |name: &str| match name {
            "HELM_KUBEAPISERVER" => Some("https://a".to_owned()),
            "HELM_KUBETOKEN" => Some("other".to_owned()),
            "HELM_KUBEASGROUPS" => Some("c, d".to_owned()),
            "HELM_KUBEINSECURE_SKIP_TLS_VERIFY" => Some("true".to_owned()),
            _ => None,
        };
        let Overrides {
            server,
            token,
            groups,
            is_unverified,
            ..
        } = HelmTarget::of(&words(line), &variables).overrides;
        assert_eq!(server.as_deref(), Some("https://a"));
        assert_eq!(token.as_deref(), Some("secret"));
        assert_eq!((groups, is_unverified), (words("a b"), false));
        let read = HelmTarget::of(&[], &variables).overrides;
        assert_eq!((read.groups, read.is_unverified), (words("c d"), true));
    }
}
