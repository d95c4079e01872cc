//! What a run would do, without doing it.

use milvus_guard_core::text::count;
use serde_json::{Value, json};

use crate::engine::{End, Preview, Procedure, RetryingClient, preview::known_runs};

use super::{
    migratable,
    plan::{self, Step},
    procedure::Migration,
    settings::{Operation, Settings},
    survey::{Survey, survey},
};

impl Migration {
    /// Plans without doing anything. The metadata in etcd is not read: the run reads it in its
    /// first step, where etcd can be reached.
    ///
    /// # Errors
    /// [`End::Refused`] if the release is not supported, [`End::Stopped`] if the cluster does not
    /// answer.
    pub async fn preview(&self, client: &RetryingClient) -> Result<Preview, End> {
        let (settings, operation) = (&self.settings, self.operation);
        let known = known_runs(client, self).await?;
        let survey = survey(client, settings, operation)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let recorded = known.iter().rev().find(|run| run.is_under_way());
        let steps = recorded
            .and_then(|run| plan::recorded(&run.spec.plan))
            .unwrap_or_else(|| plan::steps(settings, operation));
        let refusal = (operation == Operation::Migrate && recorded.is_none())
            .then(|| migratable::blocked(&survey.release, &survey.facts, settings.source, false))
            .flatten();
        let listed: Vec<Value> = steps
            .iter()
            .map(|step| json!({"id": step.id(), "title": step.title()}))
            .collect();
        Ok(Preview {
            path: None,
            text: text(&survey, settings, operation, &steps),
            json: json!({
                "release": settings.run.release.name,
                "namespace": settings.run.release.namespace,
                "operation": operation.name(),
                "from": settings.source.to_string(),
                "to": settings.target.to_string(),
                "image": survey.image,
                "etcd": survey.endpoint.shown(),
                "rootPath": survey.endpoint.root_path,
                "steps": listed,
            }),
            warnings: Vec::new(),
            refusals: refusal.into_iter().collect(),
        })
    }
}

fn text(survey: &Survey, settings: &Settings, operation: Operation, steps: &[Step]) -> String {
    let of = &settings.run.release;
    let line = match operation {
        Operation::Rollback => {
            format!(
                "{} in {}: back to {}",
                of.name, of.namespace, settings.source
            )
        }
        _ => format!(
            "{} in {}: {} → {}, metadata included",
            of.name, of.namespace, settings.source, settings.target
        ),
    };
    let workloads = survey.release.components.len();
    let mut text = format!(
        "{line}\nMilvus        {}; image {}\nMetadata      {} under {}\n",
        count(workloads, "workload"),
        survey.image,
        survey.endpoint.shown(),
        survey.endpoint.root_path,
    );
    let interruption = match operation {
        Operation::Record => "Milvus is not stopped and the metadata is not changed.",
        Operation::Migrate | Operation::Abort => {
            "Milvus is unavailable from \"Stop every component\" until its proxies are started \
             again. The metadata is backed up before it is changed."
        }
        Operation::Rollback => {
            "Milvus is unavailable until its components are started again. Data that was written \
             since the backup is lost."
        }
    };
    text.push_str(&format!("Interruption  {interruption}\n"));
    let list: Vec<&Step> = match operation {
        Operation::Rollback => steps.iter().rev().collect(),
        _ => steps.iter().collect(),
    };
    for (number, step) in list.into_iter().enumerate() {
        let undo = if operation == Operation::Rollback {
            "Undo: "
        } else {
            ""
        };
        text.push_str(&format!("{:>3}. {undo}{}\n", number + 1, step.title()));
    }
    text
}
