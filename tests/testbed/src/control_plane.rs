use std::ops::Deref;

use crate::api_server::ApiServer;
use crate::daemon::Daemon;
use crate::error::or_panic;
use crate::scratch::Scratch;
use crate::{Access, Error, Etcd, EtcdOptions};

/// What a [`ControlPlane`] is to consist of; made by [`ControlPlane::builder`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ControlPlaneBuilder {
    controller_manager: bool,
    scheduler: bool,
    etcd: EtcdOptions,
    api_server_args: Vec<String>,
}

/// A Kubernetes control plane with its own etcd: an API server with RBAC and, where wanted,
/// controllers and the scheduler.
///
/// There is no kubelet: pods are created and never run. The admission plugin `ServiceAccount` is
/// off, so pods can be created without controllers making service accounts first. Webhooks are
/// reached by URL on loopback.
#[derive(Debug)]
pub struct ControlPlane {
    // Ended from top to bottom: no part is to see the one it depends on vanish.
    scheduler: Option<Daemon>,
    controller_manager: Option<Daemon>,
    api_server: Daemon,
    etcd: Etcd,
    access: Access,
}

impl ControlPlaneBuilder {
    /// Runs the controllers too, for example those of Deployments and of service accounts. Those
    /// for nodes are left out.
    pub fn controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// Runs the scheduler too.
    pub fn scheduler(mut self, wanted: bool) -> Self {
        self.scheduler = wanted;
        self
    }

    /// Kind of the etcd below; not with [`EtcdOptions::auth`], for which the API server has no
    /// flag.
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
            return Err(Error::new(
                "an API server cannot log in to an etcd with users and passwords",
            ));
        }
        let scratch = Scratch::new("control-plane")?;
        let etcd = Etcd::try_start_with(&self.etcd)?;
        let api_server = ApiServer::start(&scratch, &etcd, &self.api_server_args)?;
        let controller_manager = self
            .controller_manager
            .then(|| api_server.start_controller_manager(&scratch))
            .transpose()?;
        let scheduler = self
            .scheduler
            .then(|| api_server.start_scheduler(&scratch))
            .transpose()?;
        let server = api_server.url();
        let ApiServer {
            daemon: api_server,
            client,
            certs,
            ..
        } = api_server;
        let access = Access::new(server, certs.authority, certs.admin, client, scratch)?;
        Ok(ControlPlane {
            scheduler,
            controller_manager,
            api_server,
            etcd,
            access,
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

    /// The etcd below, to stop, pause or look into.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The API server as a process: to stop, pause or restart it, and for its log.
    #[must_use]
    pub fn api_server(&self) -> &Daemon {
        &self.api_server
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
}

impl Deref for ControlPlane {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}
