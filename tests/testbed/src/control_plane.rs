use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::api_server::ApiServer;
use crate::command::{only_neutral_environment, run};
use crate::daemon::Daemon;
use crate::error::or_panic;
use crate::http::Answer;
use crate::kubeconfig::{impersonating, with_certificate, with_token};
use crate::programs::Program;
use crate::scratch::Scratch;
use crate::{Error, Etcd, EtcdOptions, Helm, expect_success};

/// What a [`ControlPlane`] is to consist of; made by [`ControlPlane::builder`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ControlPlaneBuilder {
    controller_manager: bool,
    scheduler: bool,
    etcd: EtcdOptions,
    api_server_args: Vec<String>,
}

/// A Kubernetes control plane with its own etcd: an API server with RBAC and, where wanted, controllers and the scheduler.
///
/// There is no kubelet: pods are created and never run. The admission plugin `ServiceAccount` is off, so pods can be created
/// without controllers making service accounts first. Webhooks are reached by URL on loopback.
#[derive(Debug)]
pub struct ControlPlane {
    // Ended from top to bottom: no part is to see the one it depends on vanish.
    scheduler: Option<Daemon>,
    controller_manager: Option<Daemon>,
    api_server: ApiServer,
    etcd: Etcd,
    kubeconfig: PathBuf,
    kubeconfigs: AtomicUsize,
    scratch: Scratch,
}

impl ControlPlaneBuilder {
    /// Runs the controllers too, for example those of Deployments and of service accounts. Those for nodes are left out.
    pub fn controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// Runs the scheduler too.
    pub fn scheduler(mut self, wanted: bool) -> Self {
        self.scheduler = wanted;
        self
    }

    /// Kind of the etcd below; not with [`EtcdOptions::auth`], for which the API server has no flag.
    pub fn etcd(mut self, options: EtcdOptions) -> Self {
        self.etcd = options;
        self
    }

    /// A further flag for the API server, in the form `--flag=value`.
    pub fn api_server_arg(mut self, flag: impl Into<String>) -> Self {
        self.api_server_args.push(flag.into());
        self
    }

    /// Starts the parts and waits until all are ready.
    ///
    /// # Panics
    /// When one does not start; the message has the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start(&self) -> ControlPlane {
        or_panic(self.try_start())
    }

    /// [`Self::start`] without the panic.
    ///
    /// # Errors
    /// When a part does not start; the text has the end of its log.
    pub fn try_start(&self) -> Result<ControlPlane, Error> {
        if self.etcd.auth.is_some() {
            return Err(Error::new("an API server cannot log in to an etcd with users and passwords"));
        }
        let scratch = Scratch::new("control-plane")?;
        let etcd = Etcd::try_start_with(&self.etcd)?;
        let api_server = ApiServer::start(&scratch, &etcd, &self.api_server_args)?;
        let kubeconfig = scratch.write("admin.kubeconfig", &api_server.kubeconfig(&with_certificate(&api_server.certs.admin)))?;
        let controller_manager = self.controller_manager.then(|| api_server.start_controller_manager(&scratch)).transpose()?;
        let scheduler = self.scheduler.then(|| api_server.start_scheduler(&scratch)).transpose()?;
        Ok(ControlPlane {
            scheduler,
            controller_manager,
            api_server,
            etcd,
            kubeconfig,
            kubeconfigs: AtomicUsize::new(0),
            scratch,
        })
    }
}

impl ControlPlane {
    /// Starts an etcd and an API server and waits until both are ready.
    ///
    /// # Panics
    /// When one does not start; the message has the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// For a control plane with more than that.
    pub fn builder() -> ControlPlaneBuilder {
        ControlPlaneBuilder::default()
    }

    /// Where the API server listens: `https://127.0.0.1:<port>`.
    #[must_use]
    pub fn server(&self) -> String {
        self.api_server.url()
    }

    /// Certificate of the authority that signed the API server's certificate, PEM.
    #[must_use]
    pub fn ca_path(&self) -> &Path {
        &self.api_server.certs.authority.path
    }

    /// A kubeconfig for an administrator (group `system:masters`); its context is called `testbed`.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A new kubeconfig for a user in these groups, who may do nothing until RBAC objects say otherwise.
    ///
    /// The user shows a client certificate. Certificates made here hold one group at most; in more groups, the user is
    /// impersonated (`as` and `as-groups`) by an administrator, which the API server's authorisation and webhooks see no
    /// different.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[must_use]
    #[track_caller]
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> PathBuf {
        let certs = &self.api_server.certs;
        or_panic(if let [] | [_] = groups {
            let file = format!("user-{}", self.kubeconfigs.fetch_add(1, Ordering::Relaxed));
            let identity = certs.authority.client(&self.scratch, &file, user, groups.first().copied());
            identity.and_then(|identity| self.write_kubeconfig(&with_certificate(&identity)))
        } else {
            self.write_kubeconfig(&impersonating(&certs.admin, user, groups))
        })
    }

    /// A new kubeconfig for a service account, which must exist, with a token that the API server issued for one hour.
    ///
    /// # Panics
    /// When the API server issues none.
    #[must_use]
    #[track_caller]
    pub fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let token = expect_success(self.kubectl(["--namespace", namespace, "create", "token", name]));
        or_panic(self.write_kubeconfig(&with_token(token.trim())))
    }

    fn write_kubeconfig(&self, user: &Value) -> Result<PathBuf, Error> {
        let name = format!("{}.kubeconfig", self.kubeconfigs.fetch_add(1, Ordering::Relaxed));
        self.scratch.write(&name, &self.api_server.kubeconfig(user))
    }

    /// The etcd below, to stop, pause or look into.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The API server as a process: to stop, pause or restart it, and for its log.
    #[must_use]
    pub fn api_server(&self) -> &Daemon {
        &self.api_server.daemon
    }

    /// The controller manager as a process, where one was asked for.
    #[must_use]
    pub fn controller_manager(&self) -> Option<&Daemon> {
        self.controller_manager.as_ref()
    }

    /// The scheduler as a process, where one was asked for.
    #[must_use]
    pub fn scheduler(&self) -> Option<&Daemon> {
        self.scheduler.as_ref()
    }

    /// kubectl for this control plane, ready for arguments and, where a test wants them, variables of its own.
    ///
    /// # Panics
    /// When kubectl has to be built and cannot be.
    #[must_use]
    #[track_caller]
    pub fn kubectl_command(&self) -> Command {
        self.client_command(Program::Kubectl)
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Panics
    /// When kubectl cannot be run at all.
    #[track_caller]
    pub fn kubectl(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.kubectl_with_input(args, "")
    }

    /// Runs kubectl as administrator with `input` on standard input, for example for `apply -f -`.
    ///
    /// # Panics
    /// When kubectl cannot be run at all.
    #[track_caller]
    pub fn kubectl_with_input(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &str) -> Output {
        or_panic(run(self.kubectl_command().args(args), input))
    }

    /// Applies manifests, server-side and as administrator.
    ///
    /// # Panics
    /// When the API server does not take them all.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        expect_success(self.kubectl_with_input(["apply", "--server-side", "-f", "-"], manifests));
    }

    /// Asks the API server, as administrator, for a path such as `/api/v1/namespaces/default/pods`.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        or_panic(self.api_server.client.get(path).map_err(|e| Error::doing(format_args!("GET {path}"), e)))
    }

    /// [`Self::get`] for an object or a list that exists.
    ///
    /// # Panics
    /// When the answer is not 200 or not JSON.
    #[must_use]
    #[track_caller]
    pub fn get_json(&self, path: &str) -> Value {
        let Answer { status, body } = self.get(path);
        assert!(status == 200, "GET {path} answers {status}: {body}");
        or_panic(serde_json::from_str(&body).map_err(|e| Error::doing(format_args!("GET {path}"), e)))
    }

    /// Helm for this control plane, ready for arguments and, where a test wants them, variables such as `HELM_DRIVER`. Its
    /// cache, configuration and data lie in this instance's temporary directory.
    ///
    /// # Panics
    /// When Helm has to be built and cannot be.
    #[must_use]
    #[track_caller]
    pub fn helm_command(&self, version: Helm) -> Command {
        let mut helm = self.client_command(version.program());
        for (variable, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
            helm.env(variable, self.scratch.join("helm").join(version.program().bundle().name()).join(folder));
        }
        helm
    }

    /// Runs Helm as administrator and returns what it printed.
    ///
    /// # Panics
    /// When Helm cannot be run at all.
    #[track_caller]
    pub fn helm(&self, version: Helm, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        or_panic(run(self.helm_command(version).args(args), ""))
    }

    #[track_caller]
    fn client_command(&self, program: Program) -> Command {
        let mut command = Command::new(program.path());
        only_neutral_environment(&mut command);
        // A home of its own keeps kubectl's caches and its preferences file out of, and from, the developer's home.
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.scratch.join("home"));
        command
    }
}
