//! The cluster and the namespace that Helm's flags and variables name.
//!
//! Helm takes its global flags out of the command line of a plugin and sets variables instead
//! (`pkg/cli/environment.go` of Helm 3.22 and 4.3). A flag wins over its variable.

use std::path::PathBuf;

use crate::cli::{exit::Failure, gather, gather::ClusterArgs};

/// Flags that name a cluster or a user beside the kubeconfig, with their variables.
const BESIDE: [(&str, &str); 7] = [
    ("--kube-apiserver", "HELM_KUBEAPISERVER"),
    ("--kube-token", "HELM_KUBETOKEN"),
    ("--kube-as-user", "HELM_KUBEASUSER"),
    ("--kube-as-group", "HELM_KUBEASGROUPS"),
    ("--kube-ca-file", "HELM_KUBECAFILE"),
    ("--kube-tls-server-name", "HELM_KUBETLS_SERVER_NAME"),
    (
        "--kube-insecure-skip-tls-verify",
        "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
    ),
];

/// Short flags of Helm without a value.
const SHORT_SWITCHES: &str = "igh";

/// Where Helm works, as far as it is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// `-n`, else `HELM_NAMESPACE`.
    pub(super) namespace: Option<String>,
    /// `--kubeconfig`; `KUBECONFIG` is read when a connection is made.
    pub(super) kubeconfig: Option<PathBuf>,
    /// `--kube-context`, else `HELM_KUBECONTEXT`.
    pub(super) context: Option<String>,
    /// Flags and variables that name a cluster or a user beside the kubeconfig.
    beside: Vec<&'static str>,
}

impl Place {
    /// Reads arguments of Helm, and the variables where `variable` finds them.
    pub(super) fn of(args: &[String], variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let long = |name: &str| long_value(args, name);
        let beside = BESIDE
            .into_iter()
            .filter_map(|(flag, name)| {
                let is_set = |value: String| value != "false";
                let by_flag = args.iter().any(|arg| arg == flag) || long(flag).is_some_and(is_set);
                let by_variable = || variable(name).is_some_and(is_set).then_some(name);
                by_flag.then_some(flag).or_else(by_variable)
            })
            .collect();
        Self {
            namespace: short_value(args, 'n')
                .or_else(|| long("--namespace"))
                .or_else(|| variable("HELM_NAMESPACE")),
            kubeconfig: long("--kubeconfig").map(PathBuf::from),
            context: long("--kube-context").or_else(|| variable("HELM_KUBECONTEXT")),
            beside,
        }
    }

    /// Whether a cluster is named, and not only the default of the kubeconfig.
    pub(super) fn names_cluster(&self) -> bool {
        self.kubeconfig.is_some()
            || self.context.is_some()
            || environment("KUBECONFIG").is_some_and(|value| !value.is_empty())
    }

    /// The cluster, as our own client finds it.
    ///
    /// # Errors
    /// Where Helm was told a server, a user or certificates that the kubeconfig does not have: the
    /// guard would judge another cluster, or what another user may see.
    pub(super) fn cluster(&self) -> Result<ClusterArgs, Failure> {
        if self.beside.is_empty() {
            return Ok(ClusterArgs {
                kubeconfig: self.kubeconfig.clone(),
                context: self.context.clone(),
            });
        }
        Err(Failure::no_verdict(format!(
            "{} is set for Helm, and milvus-guard reads the cluster by the kubeconfig only. Put the \
             server and the user into a context of a kubeconfig, and name it with --kube-context",
            self.beside.join(", ")
        )))
    }

    /// The namespace, else that of the kubeconfig's context, as Helm chooses it.
    pub(super) fn namespace(&self) -> Result<String, Failure> {
        gather::namespace(&self.cluster()?, self.namespace.as_deref())
    }
}

/// The variables of this process.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The last value of a flag: `--flag VALUE` or `--flag=VALUE`.
pub(super) fn long_value(args: &[String], flag: &str) -> Option<String> {
    args.iter().enumerate().rev().find_map(|(at, arg)| {
        if arg == flag {
            return args.get(at + 1).cloned();
        }
        arg.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned)
    })
}

/// The last value of a short flag: `-n VALUE`, `-nVALUE`, `-n=VALUE`, also behind switches
/// (`-in VALUE`).
pub(super) fn short_value(args: &[String], flag: char) -> Option<String> {
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
        // The next argument is the value of this flag, whatever it looks like.
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
        let place = Place::of(&words(line), &nothing);
        assert_eq!(place.namespace.as_deref(), expected);
    }

    #[test]
    fn a_flag_wins_over_its_variable() {
        let variables = |name: &str| match name {
            "HELM_NAMESPACE" => Some("search".to_owned()),
            "HELM_KUBECONTEXT" => Some(String::new()),
            "HELM_KUBEINSECURE_SKIP_TLS_VERIFY" => Some("false".to_owned()),
            _ => None,
        };
        let place = Place::of(&words("upgrade r c -n milvus --kube-context=a"), &variables);
        assert_eq!(place.namespace.as_deref(), Some("milvus"));
        assert_eq!(place.context.as_deref(), Some("a"));
        assert!(place.cluster().is_ok());
        let place = Place::of(&words("upgrade r c"), &variables);
        assert_eq!(place.namespace.as_deref(), Some("search"));
        assert_eq!(place.context, None);
    }

    #[test]
    fn a_cluster_beside_the_kubeconfig_is_refused() {
        let place = Place::of(&words("upgrade r c --kube-token secret"), &nothing);
        let failure = place.cluster().unwrap_err();
        assert!(failure.message.contains("--kube-token is set"));
        assert!(!failure.message.contains("secret"));
        let variables = |name: &str| (name == "HELM_KUBEAPISERVER").then(|| "x".to_owned());
        assert!(Place::of(&[], &variables).cluster().is_err());
    }
}
