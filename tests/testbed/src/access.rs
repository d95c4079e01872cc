use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::certs::{Authority, Identity};
use crate::command::{only_neutral_environment, run};
use crate::error::or_panic;
use crate::http::{Answer, Client};
use crate::kubeconfig::{impersonating, kubeconfig, with_certificate, with_token};
use crate::programs::Program;
use crate::scratch::Scratch;
use crate::{Error, Helm, expect_success, wait_until};

/// How long requests are repeated that the server answers with 429.
const PATIENCE: Duration = Duration::from_secs(60);

/// Access to a cluster for clients: kubeconfigs, kubectl, Helm and the API.
///
/// A [`ControlPlane`](crate::ControlPlane) and a [`Node`](crate::Node) dereference to it, so its
/// functions can be called on them.
#[derive(Debug)]
pub struct Access {
    server: String,
    authority: Authority,
    admin: Identity,
    client: Client,
    kubeconfig: PathBuf,
    kubeconfigs: AtomicUsize,
    scratch: Scratch,
}

impl Access {
    /// Owns the temporary directory, and writes the administrator's kubeconfig into it.
    pub(crate) fn new(
        server: String,
        authority: Authority,
        admin: Identity,
        client: Client,
        scratch: Scratch,
    ) -> Result<Self, Error> {
        let content = kubeconfig(&server, &authority.pem, &with_certificate(&admin));
        let kubeconfig = scratch.write("admin.kubeconfig", &content)?;
        Ok(Self {
            server,
            authority,
            admin,
            client,
            kubeconfig,
            kubeconfigs: AtomicUsize::new(0),
            scratch,
        })
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// URL of the API server: `https://<address>:<port>`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Certificate of the authority that signed the API server's certificate, PEM.
    #[must_use]
    pub fn ca_path(&self) -> &Path {
        &self.authority.path
    }

    /// A kubeconfig for an administrator (group `system:masters`) with the context `testbed`.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A new kubeconfig for a user in these groups, who has no rights until RBAC objects grant
    /// some.
    ///
    /// The user has a client certificate. Certificates made here hold one group at most; a user in
    /// more groups is impersonated (`as` and `as-groups`) by an administrator, which makes no
    /// difference for the API server's authorization and webhooks.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[must_use]
    #[track_caller]
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> PathBuf {
        or_panic(if let [] | [_] = groups {
            let file = format!("user-{}", self.kubeconfigs.fetch_add(1, Ordering::Relaxed));
            let identity =
                self.authority
                    .client(&self.scratch, &file, user, groups.first().copied());
            identity.and_then(|identity| self.write_kubeconfig(&with_certificate(&identity)))
        } else {
            self.write_kubeconfig(&impersonating(&self.admin, user, groups))
        })
    }

    /// A new kubeconfig for a service account, which must exist, with a token that the API server
    /// issued for one hour.
    ///
    /// # Panics
    /// When the API server does not issue one.
    #[must_use]
    #[track_caller]
    pub fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
        let answer = self.post(&path, &request);
        assert_eq!(answer.status, 201, "POST {path} answers {}", answer.body);
        let issued: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let token = issued["status"]["token"].as_str().unwrap_or_default();
        or_panic(self.write_kubeconfig(&with_token(token)))
    }

    fn write_kubeconfig(&self, user: &Value) -> Result<PathBuf, Error> {
        let name = format!(
            "{}.kubeconfig",
            self.kubeconfigs.fetch_add(1, Ordering::Relaxed)
        );
        self.scratch
            .write(&name, &kubeconfig(&self.server, &self.authority.pem, user))
    }

    /// kubectl for this cluster, without arguments; the caller may add environment variables.
    ///
    /// # Panics
    /// When kubectl has to be built and cannot be.
    #[must_use]
    #[track_caller]
    pub fn kubectl_command(&self) -> Command {
        self.client_command(Program::Kubectl)
    }

    /// Runs kubectl as administrator and returns its output.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    #[track_caller]
    pub fn kubectl(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.kubectl_with_input(args, "")
    }

    /// Runs kubectl as administrator with `input` on standard input, for example for `apply -f -`.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    #[track_caller]
    pub fn kubectl_with_input(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &str,
    ) -> Output {
        or_panic(run(self.kubectl_command().args(args), input))
    }

    /// Applies manifests as administrator, by server-side apply.
    ///
    /// # Panics
    /// When the API server does not accept all of them.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        expect_success(self.kubectl_with_input(["apply", "--server-side", "-f", "-"], manifests));
    }

    /// GET as administrator of a path such as `/api/v1/namespaces/default/pods`.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        or_panic(
            self.client
                .get(path)
                .map_err(|e| Error::doing(format_args!("GET {path}"), e)),
        )
    }

    /// Creates an object through the API server, as administrator. It is 50 times faster than
    /// kubectl: for many objects, and for conditions that are polled.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    #[track_caller]
    pub fn post(&self, path: &str, object: &Value) -> Answer {
        self.send("POST", path, "application/json", object)
    }

    /// Merges a patch into an object or a subresource, as fast as [`Self::post`].
    ///
    /// # Panics
    /// When the API server does not accept it.
    #[track_caller]
    pub fn merge(&self, path: &str, change: &Value) {
        let Answer { status, body } =
            self.send("PATCH", path, "application/merge-patch+json", change);
        assert!(status == 200, "PATCH {path} answers {status}: {body}");
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, content_type: &str, document: &Value) -> Answer {
        let answer = self
            .client
            .send(method, path, content_type, &document.to_string());
        or_panic(answer.map_err(|e| Error::doing(format_args!("{method} {path}"), e)))
    }

    /// [`Self::get`] for an object or a list that exists. Repeats the request on 429, which the
    /// server returns for objects of a new definition.
    ///
    /// # Panics
    /// When the answer is not 200 or not JSON.
    #[must_use]
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        let mut answer = self.get(path);
        if answer.status == 429 {
            wait_until(PATIENCE, || {
                answer = self.get(path);
                answer.status != 429
            });
        }
        let Answer { status, body } = answer;
        assert!(status == 200, "GET {path} answers {status}: {body}");
        or_panic(
            serde_json::from_str(&body).map_err(|e| Error::doing(format_args!("GET {path}"), e)),
        )
    }

    /// Helm for this cluster, without arguments; the caller may add environment variables such as
    /// `HELM_DRIVER`. Its cache, configuration and data are in this instance's temporary directory.
    ///
    /// # Panics
    /// When Helm has to be built and cannot be.
    #[must_use]
    #[track_caller]
    pub fn helm_command(&self, version: Helm) -> Command {
        let mut helm = self.client_command(version.program());
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            helm.env(
                variable,
                self.scratch
                    .join("helm")
                    .join(version.program().bundle().name())
                    .join(folder),
            );
        }
        helm
    }

    /// Runs Helm as administrator and returns its output.
    ///
    /// # Panics
    /// When Helm cannot be started.
    #[track_caller]
    pub fn helm(&self, version: Helm, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        or_panic(run(self.helm_command(version).args(args), ""))
    }

    #[track_caller]
    fn client_command(&self, program: Program) -> Command {
        let mut command = Command::new(program.path());
        only_neutral_environment(&mut command);
        // A separate home keeps kubectl's caches out of the developer's home, and the developer's
        // preferences out of the test.
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.scratch.join("home"));
        command
    }
}
