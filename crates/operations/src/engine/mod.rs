//! The engine behind `migrate` and `upgrade`: a plan of steps, executed so that it can be killed at
//! any point, resumed, rolled back or ended. It knows nothing of Milvus' versions and their order.
//!
//! | module | holds |
//! |---|---|
//! | [`step`] | what a step is: `apply`, `gate`, `undo`, each of them idempotent |
//! | [`executor`] | runs steps forward or back: the state is written before each side effect and after it |
//! | [`context`] | what a step is given: patience with the API server, progress, what it waits for, the record |
//! | [`run_record`] | the `UpgradeRun`: optimistic concurrency, fenced by the lock |
//! | [`lock`] | the Lease that keeps a second run out |
//! | [`history`] | events that the record has yet to hold |
//! | [`home`] | where a run lives: the guard's namespace, else the release's |
//! | [`event`] | what happens, as data, and those who are told: [`display`], [`recorder`], the run's history |
//! | [`cancellation`] | why a run must stop now: a signal, or the lost lock |
//! | [`choice`] | which run a command is about |
//! | [`procedure`] | what a verb brings: its plan, its preconditions, its messages |
//! | [`life_cycle`] | starts, resumes, rolls back or ends a run, under the lock and on the record |
//! | [`settings`] | what every verb that makes runs is told |
//! | [`preview`] | a plan that is not carried out |
//! | [`end`] | how a run ended, and its exit code |
//! | [`replicas`] | waits until every replica of the guard knows the run |
//! | [`view`] | where a run stands, for `status` |
//! | [`live_view`] | the same while one looks, with the pods of each component and the measured interruption |
//! | [`release`] | the release that a run is about: found, read, and the image that it gets |
//! | [`etcd`] | where the etcd of a release is |
//! | [`originals`] | Deployments that a run recorded: found again, changed, handed back, waited for |
//!
//! A verb brings a [`Procedure`]: its plan as a list of its own [`Step`] type (an enum serves well:
//! no step can be forgotten), the data that its steps work with, and its messages.
//! [`run_locally`] does the rest in this process, and [`crate::kubernetes_job::run_in_job`] lets a
//! Job do it.
//!
//! What a run must be able to rely on: a step whose `Begun` is written may have done any part of
//! its work, so `apply` is called again after a crash and must then do what is missing and nothing
//! twice. `undo` may meet a step that never did anything. A gate does its own waiting (on watches,
//! never on time) and says through [`StepContext::waiting`] for what.

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
pub use settings::RunSettings;
pub use step::{Step, StepError, StopMessage};
