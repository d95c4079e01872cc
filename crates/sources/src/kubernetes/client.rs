//! The connection to an API server, configured as for kubectl.

use std::time::Duration;

use kube::{
    Client, Config,
    api::{GetParams, ListParams},
    core::Request,
};
use serde_json::Value;
use tokio::time::timeout;

use milvus_guard_core::{error_text, milvus::Version};

use super::{
    error::ClusterError,
    kubeconfig::{Access, config, config_with},
    overrides::Overrides,
};

/// Limit to establish a connection.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Limit for one request. The limit of the API server itself is 60 s; pages are small.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Objects in one page.
pub const PAGE: u32 = 250;
/// Objects in one page of kinds with up to 1 MiB each: a whole page is held in memory.
const LARGE_PAGE: u32 = 20;
/// Pages of one list. A namespace with more objects of one kind (10,000 `ConfigMaps`) is not read.
pub const MAX_PAGES: usize = 500;

/// Length of a name that the API accepts.
const MAX_NAME: usize = 253;

/// A connection.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    server: String,
    namespace: String,
}

/// The API path of a kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// `apps/v1`, or `v1` for the core group.
    pub api: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
}

impl Resource {
    pub(super) const fn new(api: &'static str, plural: &'static str, kind: &'static str) -> Self {
        Self { api, plural, kind }
    }

    /// Whether every API server has it.
    fn is_everywhere(self) -> bool {
        matches!(self.api, "v1" | "apps/v1")
    }

    /// Objects in one page.
    fn page(&self) -> u32 {
        if self.kind == "ConfigMap" {
            LARGE_PAGE
        } else {
            PAGE
        }
    }

    fn path(&self, namespace: Option<&str>) -> Result<String, ClusterError> {
        if let Some(namespace) = namespace {
            named(namespace)?;
        }
        let root = if self.api.contains('/') {
            "apis"
        } else {
            "api"
        };
        Ok(match namespace {
            Some(namespace) => format!(
                "/{root}/{}/namespaces/{namespace}/{}",
                self.api, self.plural
            ),
            None => format!("/{root}/{}/{}", self.api, self.plural),
        })
    }

    /// The resource and the place, as messages name them.
    pub(super) fn describe(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{} in namespace {namespace}", self.plural),
            None if self.plural == "namespaces" => self.plural.to_owned(),
            None => format!("{} in all namespaces", self.plural),
        }
    }
}

/// Refuses invalid names of objects, because names become parts of a URL or a selector.
pub(super) fn named(name: &str) -> Result<(), ClusterError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(plain)
        && name != "."
        && name != ".."
    {
        return Ok(());
    }
    Err(ClusterError::Api {
        what: format!("{:?}", error_text::line(name)),
        reason: "it is not a valid name of a Kubernetes object".into(),
    })
}

impl Cluster {
    /// Finds the cluster: `--kubeconfig`, else `KUBECONFIG`, else `~/.kube/config`, else the pod's
    /// service account. No request is sent yet, but a login helper that the kubeconfig names
    /// may run.
    ///
    /// # Errors
    /// If there is no cluster, no such context, or the kubeconfig cannot be used.
    pub async fn connect(access: &Access) -> Result<Self, ClusterError> {
        Self::connect_with(access, &Overrides::default()).await
    }

    /// [`Self::connect`] with a server and a user that win over those of the kubeconfig.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(
        access: &Access,
        overrides: &Overrides,
    ) -> Result<Self, ClusterError> {
        let mut config = config_with(access, overrides).await?;
        config.read_timeout = Some(REQUEST_DEADLINE);
        let server = without_user(&config.cluster_url.to_string());
        let namespace = config.default_namespace.clone();
        Ok(Self {
            client: client(config)?,
            server,
            namespace,
        })
    }

    /// The namespace of the context that `access` selects; `default` if the context does not name
    /// one.
    ///
    /// # Errors
    /// If there is no cluster, no such context, or the kubeconfig cannot be used.
    pub async fn namespace_of(access: &Access) -> Result<String, ClusterError> {
        Ok(config(access).await?.default_namespace)
    }

    /// A client for watches: a watch may wait long for the next event, so reading has no time
    /// limit. The caller must limit the time.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn watcher(access: &Access) -> Result<Client, ClusterError> {
        client(for_watches(config(access).await?))
    }

    /// The namespace of the context, `default` if it does not name one.
    #[must_use]
    pub fn default_namespace(&self) -> &str {
        &self.namespace
    }

    /// Address of the API server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The client, for callers that write.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Version of the API server.
    ///
    /// # Errors
    /// If it does not answer or does not name a version.
    pub async fn version(&self) -> Result<Version, ClusterError> {
        let what = "the API server's version";
        let info: Value = self
            .send(
                Request::new("").get("version", &GetParams::default()),
                "get",
                what,
            )
            .await?;
        info.get("gitVersion")
            .and_then(Value::as_str)
            .and_then(server_version)
            .ok_or_else(|| ClusterError::Api {
                what: what.into(),
                reason: "it does not name a version".into(),
            })
    }

    /// The names of all namespaces.
    ///
    /// # Errors
    /// If they may not be listed.
    pub async fn namespaces(&self) -> Result<Vec<String>, ClusterError> {
        let found = self
            .list(Resource::new("v1", "namespaces", "Namespace"), None, None)
            .await?;
        Ok(found
            .iter()
            .filter_map(|object| {
                object
                    .pointer("/metadata/name")?
                    .as_str()
                    .map(str::to_owned)
            })
            .collect())
    }

    /// Every object of a kind, each with its kind and API version filled in (lists leave them out).
    pub(super) async fn list(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        labels: Option<&str>,
    ) -> Result<Vec<Value>, ClusterError> {
        let mut objects = Vec::new();
        self.each(resource, namespace, labels, |object| objects.push(object))
            .await?;
        Ok(objects)
    }

    /// Calls a function with every object of a kind, as [`Self::list`] returns them.
    pub(super) async fn each(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        labels: Option<&str>,
        mut take: impl FnMut(Value),
    ) -> Result<(), ClusterError> {
        self.pages(resource, namespace, labels, false, |mut object| {
            if let Value::Object(fields) = &mut object {
                fields.insert("kind".into(), resource.kind.into());
                fields.insert("apiVersion".into(), resource.api.into());
            }
            take(object);
        })
        .await
    }

    /// The metadata of every object of a kind; the contents do not leave the API server.
    pub(super) async fn list_metadata(
        &self,
        resource: Resource,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>, ClusterError> {
        let mut objects = Vec::new();
        self.pages(resource, Some(namespace), Some(labels), true, |object| {
            objects.push(object);
        })
        .await?;
        Ok(objects)
    }

    async fn pages(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        labels: Option<&str>,
        metadata: bool,
        mut take: impl FnMut(Value),
    ) -> Result<(), ClusterError> {
        let what = resource.describe(namespace);
        let request = Request::new(resource.path(namespace)?);
        let mut params = ListParams {
            label_selector: labels.map(str::to_owned),
            limit: Some(resource.page()),
            ..ListParams::default()
        };
        for _ in 0..MAX_PAGES {
            let page = if metadata {
                request.list_metadata(&params)
            } else {
                request.list(&params)
            };
            let page = self.send(page, "list", &what).await;
            let mut page: Value = page.map_err(|error| match error {
                ClusterError::NotFound(what) if resource.is_everywhere() => {
                    ClusterError::NotKubernetes {
                        server: self.server.clone(),
                        what,
                    }
                }
                error => error,
            })?;
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items.into_iter().for_each(&mut take),
                // An empty list of metadata comes as null from a real API server.
                Some(Value::Null) => {}
                _ => {
                    return Err(ClusterError::Api {
                        what,
                        reason: "the answer is not a list".into(),
                    });
                }
            }
            let next = page
                .pointer("/metadata/continue")
                .and_then(Value::as_str)
                .filter(|next| !next.is_empty());
            let Some(next) = next else { return Ok(()) };
            params.continue_token = Some(next.to_owned());
        }
        Err(ClusterError::Api {
            what,
            reason: format!("more than {} objects", MAX_PAGES * resource.page() as usize),
        })
    }

    /// Whether the server lacks even the version that every API server has.
    pub async fn is_foreign(&self) -> bool {
        let request = Request::new("/version").list(&ListParams::default());
        let answer: Result<Value, _> = self.send(request, "get", "the version").await;
        matches!(answer, Err(ClusterError::NotFound(_)))
    }

    /// Whether the API group of a resource is certain to be absent. Without a permission the API
    /// server refuses also if the group does not exist, so a refusal does not prove that it
    /// exists; every account may list groups.
    pub(super) async fn lacks(&self, resource: Resource) -> bool {
        let Some((group, _)) = resource.api.split_once('/') else {
            return false;
        };
        let request = Request::new("/apis").get(group, &GetParams::default());
        matches!(
            self.send(request, "get", group).await,
            Err(ClusterError::NotFound(_))
        )
    }

    /// One object.
    pub(super) async fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Value, ClusterError> {
        let what = format!("{} {name} in namespace {namespace}", resource.kind);
        named(name)?;
        let request =
            Request::new(resource.path(Some(namespace))?).get(name, &GetParams::default());
        let mut object: Value = self.send(request, "get", &what).await?;
        if let Value::Object(fields) = &mut object {
            fields.insert("kind".into(), resource.kind.into());
        }
        Ok(object)
    }

    /// One object that is in no namespace.
    pub(super) async fn get_of_cluster(
        &self,
        resource: Resource,
        name: &str,
    ) -> Result<Value, ClusterError> {
        let what = format!("{} {name}", resource.kind);
        named(name)?;
        let request = Request::new(resource.path(None)?).get(name, &GetParams::default());
        self.send(request, "get", &what).await
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        verb: &'static str,
        what: &str,
    ) -> Result<Value, ClusterError> {
        let request = request.map_err(|error| ClusterError::Api {
            what: what.to_owned(),
            reason: error_text::chain(&error),
        })?;
        match timeout(REQUEST_DEADLINE, self.client.request::<Value>(request)).await {
            Ok(answer) => {
                answer.map_err(|error| ClusterError::of(&error, verb, what, &self.server))
            }
            Err(_) => Err(ClusterError::Unreachable {
                server: self.server.clone(),
                reason: format!("no answer within {} seconds", REQUEST_DEADLINE.as_secs()),
            }),
        }
    }
}

fn for_watches(mut config: Config) -> Config {
    config.read_timeout = None;
    config
}

fn client(mut config: Config) -> Result<Client, ClusterError> {
    config.connect_timeout = Some(CONNECT_DEADLINE);
    Client::try_from(config).map_err(|error| match error {
        kube::Error::Auth(_) => ClusterError::Login,
        other => ClusterError::Kubeconfig(error_text::chain(&other)),
    })
}

fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!(
            "{scheme}://{}",
            rest.rsplit_once('@').map_or(rest, |(_, host)| host)
        ),
        None => url.to_owned(),
    }
}

/// `v1.28.4-gke.100` and `v1.30.0+k3s1` are 1.28.4 and 1.30.0.
fn server_version(text: &str) -> Option<Version> {
    Version::parse_lenient(text.split(['-', '+']).next()?)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, path::Path};

    use rstest::rstest;

    use super::*;

    const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: one\nclusters:\n- {name: c, cluster: {server: 'https://root:hunter2@127.0.0.1:1'}}\n\
        contexts:\n- {name: one, context: {cluster: c, namespace: milvus}}\n- {name: two, context: {cluster: gone}}\n";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    async fn connect(path: &Path, context: Option<&str>) -> Result<Cluster, ClusterError> {
        Cluster::connect(&Access {
            kubeconfig: Some(path.into()),
            context: context.map(str::to_owned),
        })
        .await
    }

    #[tokio::test]
    async fn the_context_selects_server_and_namespace() {
        let file = file(KUBECONFIG);
        let cluster = connect(file.path(), None).await.unwrap();
        assert_eq!(
            (cluster.default_namespace(), cluster.server()),
            ("milvus", "https://127.0.0.1:1/")
        );
        let error = connect(file.path(), Some("three")).await.err().unwrap();
        assert_eq!(
            error.to_string(),
            "context \"three\" does not exist in the kubeconfig; it has one, two"
        );
        let error = connect(file.path(), Some("two")).await.err().unwrap();
        assert!(
            error.to_string().contains("names cluster \"gone\""),
            "{error}"
        );
    }

    #[test]
    fn watches_have_no_read_timeout() {
        let mut config = Config::new(http::Uri::from_static("https://127.0.0.1:1"));
        config.read_timeout = Some(REQUEST_DEADLINE);
        assert_eq!(for_watches(config).read_timeout, None);
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_named() {
        let missing = connect(Path::new("/does/not/exist"), None)
            .await
            .err()
            .unwrap();
        assert!(missing.to_string().contains("/does/not/exist"), "{missing}");
        let broken = file("users: [{name: a, user: {token: hunter2");
        let error = connect(broken.path(), None).await.err().unwrap();
        assert!(
            matches!(&error, ClusterError::Kubeconfig(text) if !text.contains("hunter2")),
            "{error}"
        );
        let empty = connect(file("").path(), None).await.err().unwrap();
        assert_eq!(empty, ClusterError::NoContext("none".into()));
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let file = file(KUBECONFIG);
        let cluster = connect(file.path(), None).await.unwrap();
        let error = cluster.version().await.unwrap_err();
        assert!(
            matches!(error, ClusterError::Unreachable { .. })
                && !error.to_string().contains("hunter2"),
            "{error}"
        );
    }

    #[rstest]
    #[case("milvus", true)]
    #[case("sh.helm.release.v1.my-release.v3", true)]
    #[case("..", false)]
    #[case("a/b", false)]
    #[case("a,owner!=x", false)]
    #[case("", false)]
    fn names_are_checked(#[case] name: &str, #[case] plain: bool) {
        assert_eq!(named(name).is_ok(), plain);
    }

    #[rstest]
    #[case("v1.28.4-gke.100", Some(Version::new(1, 28, 4)))]
    #[case("v1.30.0+k3s1", Some(Version::new(1, 30, 0)))]
    #[case("unknown", None)]
    fn server_versions_are_read(#[case] text: &str, #[case] version: Option<Version>) {
        assert_eq!(server_version(text), version);
    }
}
