//! The kubeconfig, found and merged as kubectl does.

use std::path::PathBuf;

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use milvus_guard_core::error_text;

use super::{error::ClusterError, overrides::Overrides};

/// How to find the cluster. Empty fields mean the same as for kubectl.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
}

pub(super) async fn config(access: &Access) -> Result<Config, ClusterError> {
    config_with(access, &Overrides::default()).await
}

pub(super) async fn config_with(
    access: &Access,
    overrides: &Overrides,
) -> Result<Config, ClusterError> {
    let options = KubeConfigOptions {
        context: access.context.clone(),
        ..KubeConfigOptions::default()
    };
    let asked = access.kubeconfig.is_some() || access.context.is_some();
    let read = match &access.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).map(Some),
        None => found(),
    };
    let mut kubeconfig = match read {
        Ok(Some(kubeconfig)) if asked || !is_empty(&kubeconfig) => kubeconfig,
        Ok(None) if access.context.is_some() => Kubeconfig::default(),
        Ok(found) if overrides.server.is_some() => found.unwrap_or_default(),
        // The service account of a pod is not in a kubeconfig, so overrides cannot apply.
        Ok(_) if !overrides.is_empty() => return Err(ClusterError::NoCluster),
        Ok(_) => return Config::incluster().map_err(|_| ClusterError::NoCluster),
        Err(error) => return Err(worded(&error, "")),
    };
    if !overrides.is_empty() {
        overrides.lay_over(&mut kubeconfig, access.context.as_deref());
    }
    let known: Vec<&str> = kubeconfig
        .contexts
        .iter()
        .map(|context| context.name.as_str())
        .collect();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| worded(&error, &known))
}

/// The kubeconfig that kubectl would use. Like kubectl, skips files of `KUBECONFIG` that do not
/// exist.
fn found() -> Result<Option<Kubeconfig>, KubeconfigError> {
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|value| {
            std::env::split_paths(&value)
                .filter(|path| !path.as_os_str().is_empty())
                .collect()
        })
        .unwrap_or_default();
    let paths = if listed.is_empty() {
        std::env::home_dir()
            .map(|home| home.join(".kube/config"))
            .into_iter()
            .collect()
    } else {
        listed
    };
    merged(&paths)
}

fn merged(paths: &[PathBuf]) -> Result<Option<Kubeconfig>, KubeconfigError> {
    let mut all: Option<Kubeconfig> = None;
    for path in paths {
        let one = match Kubeconfig::read_from(path) {
            Err(KubeconfigError::ReadConfig(error, _))
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                continue;
            }
            other => other?,
        };
        all = Some(match all {
            Some(all) => all.merge(one)?,
            None => one,
        });
    }
    Ok(all)
}

fn is_empty(kubeconfig: &Kubeconfig) -> bool {
    kubeconfig.contexts.is_empty()
        && kubeconfig.clusters.is_empty()
        && kubeconfig.current_context.is_none()
}

fn worded(error: &KubeconfigError, known: &str) -> ClusterError {
    match error {
        KubeconfigError::CurrentContextNotSet => ClusterError::NoContext(known.to_owned()),
        KubeconfigError::LoadContext(name) if name.is_empty() => {
            ClusterError::NoContext(known.to_owned())
        }
        KubeconfigError::LoadContext(name) => ClusterError::UnknownContext {
            name: name.clone(),
            known: known.to_owned(),
        },
        KubeconfigError::LoadClusterOfContext(name) => ClusterError::Kubeconfig(format!(
            "the context names cluster {name:?}, which it does not describe"
        )),
        // The parser's message quotes the file, which contains tokens and keys.
        KubeconfigError::Parse(_) => {
            ClusterError::Kubeconfig("it is not YAML of the right shape".into())
        }
        KubeconfigError::ReadConfig(error, path) => {
            ClusterError::Kubeconfig(format!("{}: {error}", path.display()))
        }
        other => ClusterError::Kubeconfig(error_text::chain(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn missing_files_of_the_list_are_skipped() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"contexts:\n- {name: one, context: {cluster: c}}\n")
            .unwrap();
        let paths = [PathBuf::from("/does/not/exist"), file.path().into()];
        assert_eq!(merged(&paths).unwrap().unwrap().contexts.len(), 1);
        assert!(merged(&paths[..1]).unwrap().is_none());
    }
}
