use std::ops::Deref;

use crate::api_server::ApiServer;
use crate::daemon::Daemon;
use crate::error::or_panic;
use crate::scratch::Scratch;
use crate::{Access, Error, Etcd, EtcdOptions};

/// The parts of a [`ControlPlane`]; made by [`ControlPlane::builder`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ControlPlaneBuilder {
    controller_manager: bool,
    scheduler: bool,
    etcd: EtcdOptions,
    api_server_args: Vec<String>,
}

/// A Kubernetes control plane with a separate etcd: an API server with RBAC and, if requested,
/// controllers and the scheduler.
///
/// There is no kubelet: pods are created and never run. The admission plugin `ServiceAccount` is
/// off, so pods can be created before controllers have created service accounts. Webhooks are
/// called by URL on loopback.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped from top to bottom: each part ends before the part that it depends on.
    scheduler: Option<Daemon>,
    controller_manager: Option<Daemon>,
    api_server: Daemon,
    etcd: Etcd,
    access: Access,
}

impl ControlPlaneBuilder {
    /// Also runs the controllers, for example those of Deployments and of service accounts, without
    /// those for nodes.
    pub fn controller_manager(mut self, wanted: bool) -> Self {
        self.controller_manager = wanted;
        self
    }

    /// Also runs the scheduler.
    pub fn scheduler(mut self, wanted: bool) -> Self {
        self.scheduler = wanted;
        self
    }

    /// Options of its etcd; not [`EtcdOptions::auth`], for which the API server has no flag.
    pub fn etcd(mut self, options: EtcdOptions) -> Self {
        self.etcd = options;
        self
    }

    /// Adds a flag for the API server, in the form `--flag=value`.
    pub fn api_server_arg(mut self, flag: impl Into<String>) -> Self {
        self.api_server_args.push(flag.into());
        self
    }

    /// Starts the parts and waits until all are ready.
    ///
    /// # Panics
    /// When a part does not start; the message contains the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start(&self) -> ControlPlane {
        or_panic(self.try_start())
    }

    /// [`Self::start`] without the panic.
    ///
    /// # Errors
    /// When a part does not start; the error contains the end of its log.
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
    /// When one does not start; the message contains the end of its log.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A builder for a control plane with further parts.
    pub fn builder() -> ControlPlaneBuilder {
        ControlPlaneBuilder::default()
    }

    /// The etcd of this control plane.
    #[must_use]
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The process of the API server: to stop, pause or restart it, and for its log.
    #[must_use]
    pub fn api_server(&self) -> &Daemon {
        &self.api_server
    }

    /// The process of the controller manager, if requested.
    #[must_use]
    pub fn controller_manager(&self) -> Option<&Daemon> {
        self.controller_manager.as_ref()
    }

    /// The process of the scheduler, if requested.
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
