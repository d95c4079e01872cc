//! Settings that override the kubeconfig, as Helm's flags `--kube-apiserver`, `--kube-token`,
//! `--kube-as-user` and others do. They are applied to the context of the kubeconfig as in
//! client-go (`tools/clientcmd/client_config.go`).

use std::{fmt, path::PathBuf};

use kube::config::{
    AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};

/// Name of the context, cluster and user that are added to a kubeconfig without contexts.
const ADDED: &str = "overrides";

/// Settings that take precedence over the kubeconfig. Empty fields change nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Address of the API server.
    pub server: Option<String>,
    /// File with its certificate authorities (PEM).
    pub authority: Option<PathBuf>,
    /// Name in its certificate.
    pub server_name: Option<String>,
    /// Whether its certificate is not verified.
    pub is_unverified: bool,
    /// Bearer token.
    pub token: Option<String>,
    /// User who is impersonated.
    pub user: Option<String>,
    /// Groups of that user.
    pub groups: Vec<String>,
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overrides")
            .field("server", &self.server)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Overrides {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Applies them to the context of this name, else to the current one. Adds a context to a
    /// kubeconfig without contexts. A context that does not exist stays absent; the code that
    /// selects it reports the error.
    pub(super) fn lay_over(&self, kubeconfig: &mut Kubeconfig, context: Option<&str>) {
        if kubeconfig.contexts.is_empty()
            && context.is_none()
            && kubeconfig.current_context.is_none()
        {
            add_context(kubeconfig);
        }
        let name = context.or(kubeconfig.current_context.as_deref());
        let found = kubeconfig
            .contexts
            .iter()
            .find(|known| Some(known.name.as_str()) == name)
            .and_then(|known| known.context.clone());
        let Some(found) = found else { return };
        let clusters = kubeconfig.clusters.iter_mut();
        for known in clusters.filter(|known| known.name == found.cluster) {
            self.lay_over_cluster(known.cluster.get_or_insert_default());
        }
        let users = kubeconfig.auth_infos.iter_mut();
        for known in users.filter(|known| Some(&known.name) == found.user.as_ref()) {
            self.lay_over_user(known.auth_info.get_or_insert_default());
        }
    }

    fn lay_over_cluster(&self, cluster: &mut Cluster) {
        if self.is_unverified || self.authority.is_some() {
            cluster.insecure_skip_tls_verify = Some(self.is_unverified);
            cluster.certificate_authority = self
                .authority
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned());
            cluster.certificate_authority_data = None;
        }
        if self.server_name.is_some() || self.server.is_some() {
            cluster.tls_server_name.clone_from(&self.server_name);
        }
        if self.server.is_some() {
            cluster.server.clone_from(&self.server);
        }
    }

    fn lay_over_user(&self, user: &mut AuthInfo) {
        if let Some(token) = &self.token {
            user.token = Some(token.clone().into());
            user.token_file = None;
        }
        if self.user.is_some() {
            user.impersonate.clone_from(&self.user);
        }
        if !self.groups.is_empty() {
            user.impersonate_groups = Some(self.groups.clone());
        }
    }
}

fn add_context(kubeconfig: &mut Kubeconfig) {
    kubeconfig.current_context = Some(ADDED.into());
    kubeconfig.contexts.push(NamedContext {
        name: ADDED.into(),
        context: Some(Context {
            cluster: ADDED.into(),
            user: Some(ADDED.into()),
            ..Context::default()
        }),
        ..NamedContext::default()
    });
    kubeconfig.clusters.push(NamedCluster {
        name: ADDED.into(),
        ..NamedCluster::default()
    });
    kubeconfig.auth_infos.push(NamedAuthInfo {
        name: ADDED.into(),
        ..NamedAuthInfo::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig() -> Kubeconfig {
        Kubeconfig::from_yaml(
            "clusters: [{name: c, cluster: {server: 'https://a', certificate-authority-data: AAAA, \
             tls-server-name: n}}, {name: d, cluster: {server: 'https://d'}}]\n\
             users: [{name: u, user: {token: own, tokenFile: /t}}]\n\
             contexts: [{name: x, context: {cluster: c, user: u}}, {name: y, context: {cluster: d, \
             user: u}}]\ncurrent-context: x\n",
        )
        .unwrap()
    }

    fn server(kubeconfig: &Kubeconfig, at: usize) -> Option<&str> {
        kubeconfig.clusters[at].cluster.as_ref()?.server.as_deref()
    }

    #[test]
    fn overrides_take_precedence_over_the_selected_context() {
        let overrides = Overrides {
            server: Some("https://b".into()),
            authority: Some("/ca".into()),
            token: Some("secret".into()),
            user: Some("eve".into()),
            groups: vec!["g".into()],
            ..Overrides::default()
        };
        let mut changed = kubeconfig();
        overrides.lay_over(&mut changed, None);
        assert_eq!(server(&changed, 0), Some("https://b"));
        assert_eq!(server(&changed, 1), Some("https://d"));
        let cluster = changed.clusters[0].cluster.clone().unwrap();
        assert_eq!(cluster.certificate_authority.as_deref(), Some("/ca"));
        assert_eq!(cluster.certificate_authority_data, None);
        assert_eq!(cluster.tls_server_name, None);
        let user = changed.auth_infos[0].auth_info.clone().unwrap();
        assert_eq!(
            (user.token_file, user.impersonate.as_deref()),
            (None, Some("eve"))
        );
        assert!(!format!("{overrides:?}").contains("secret"));

        let mut changed = kubeconfig();
        overrides.lay_over(&mut changed, Some("y"));
        assert_eq!(server(&changed, 0), Some("https://a"));
        assert_eq!(server(&changed, 1), Some("https://b"));

        let mut changed = kubeconfig();
        overrides.lay_over(&mut changed, Some("nope"));
        let json = |config: &Kubeconfig| serde_json::to_value(config).unwrap();
        assert_eq!(json(&changed), json(&kubeconfig()));
    }

    #[test]
    fn overrides_work_without_a_kubeconfig() {
        let overrides = Overrides {
            server: Some("https://b".into()),
            ..Overrides::default()
        };
        let mut made = Kubeconfig::default();
        overrides.lay_over(&mut made, None);
        assert_eq!(server(&made, 0), Some("https://b"));
        assert_eq!(made.current_context.as_deref(), Some(ADDED));
    }
}
