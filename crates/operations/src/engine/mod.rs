//! The engine behind `migrate` and `upgrade`: a plan of steps, executed so that it can be killed at
//! any point, resumed, rolled back or ended. It has no data about Milvus versions and their order.
//!
//! | module | holds |
//! |---|---|
//! | [`step`] | what a step is: `apply`, `gate`, `undo`, each of them idempotent |
//! | [`executor`] | runs steps forward or back: the state is written before each side effect and after it |
//! | [`context`] | what a step gets: its data, the client, the record, the lock |
//! | [`run_record`] | the `UpgradeRun`: optimistic concurrency, fenced by the lock |
//! | [`lock`] | the Lease that prevents a second run |
//! | [`history`] | events that are not yet in the record |
//! | [`home`] | the namespace of a run: the guard's, else the release's |
//! | [`event`] | the events of a run and their listeners: [`display`], [`recorder`], the run's history |
//! | [`cancellation`] | why a run must stop now: a signal, or the lost lock |
//! | [`choice`] | which run a command is about |
//! | [`procedure`] | what a verb brings: its plan, its preconditions, its messages |
//! | [`life_cycle`] | starts, resumes, rolls back or ends a run, while it holds the lock |
//! | [`settings`] | the settings that all kinds of runs share |
//! | [`preview`] | a plan that is not carried out |
//! | [`end`] | how a run ended, with the message for the user |
//! | [`replicas`] | waits until every replica of the guard knows the run |
//! | [`view`] | the state of a run, for `status` |
//! | [`live_view`] | the same while a user watches, with the pods of each component and the measured interruption |
//! | [`release`] | the release that a run is about: found, read, and the image that it gets |
//! | [`etcd`] | the addresses of a release's etcd |
//! | [`originals`] | Deployments that a run recorded: found again, changed, handed back, waited for |
//!
//! A verb brings a [`Procedure`]: its plan as a list of its [`Step`] type (best an enum, so
//! that the compiler finds a forgotten step), the data that its steps work with, and its messages.
//! [`run_locally`] does the rest in this process, [`crate::kubernetes_job::run_in_job`] in a Job.
//!
//! Requirements on steps: a step whose `Begun` is written may have done any part of its work, so
//! `apply` is called again after a crash and must do what is missing and nothing twice. `undo` may
//! be called for a step that did nothing. A gate waits on watches, never for a fixed time, and
//! reports through [`StepContext::waiting`] what it waits for.

pub mod cancellation;
pub mod choice;
pub mod context;
pub mod display;
pub mod end;
pub mod etcd;
pub mod event;
pub mod executor;
pub mod history;
pub mod home;
pub mod life_cycle;
pub mod live_view;
pub mod lock;
pub mod originals;
pub mod preview;
pub mod procedure;
pub mod recorder;
pub mod release;
pub mod replicas;
pub mod retrying_client;
pub mod run_record;
pub mod settings;
pub mod step;
pub mod view;

pub use cancellation::{CancelReason, Cancellation};
pub use choice::{Intent, choose};
pub use context::StepContext;
pub use end::End;
pub use etcd::EtcdAccess;
pub use event::{Event, Listener, Reporter};
pub use executor::{Engine, Options};
pub use home::{Home, ReleaseName};
pub use life_cycle::run_locally;
pub use lock::{Lock, LockError};
pub use preview::Preview;
pub use procedure::Procedure;
pub use retrying_client::{ApiError, RetryingClient};
pub use run_record::{Listed, RunRecord, RunRecordError};
pub use settings::{RunLocation, RunSettings};
pub use step::{Step, StepError, StopMessage};
