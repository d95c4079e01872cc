//! What a run would do, without doing it.

use milvus_guard_core::text::count;
use serde_json::{Value, json};

use crate::engine::{
    End, Preview, Procedure, RetryingClient,
    preview::{Ahead, ReadableRuns, ahead, readable_runs, resumes},
    procedure::Preparation,
};

use super::{
    migratable,
    plan::Step,
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
        let operation = self.operation;
        let ReadableRuns { runs, unread } = readable_runs(client, self).await?;
        let (ready, run) = match ahead(client, self, &runs).await? {
            Ahead::Forward(ready, run) => (ready, run),
            Ahead::Ending(preview) => return Ok(*preview),
        };
        let Preparation { data, steps, .. } = &*ready;
        let settings = &data.settings;
        let survey = survey(client, settings, operation)
            .await
            .map_err(|error| self.unsurveyed(error))?;
        let refusal = (operation == Operation::Migrate && run.is_none())
            .then(|| migratable::blocked(&survey.release, &survey.facts, settings.source, false))
            .flatten();
        let listed: Vec<Value> = steps
            .iter()
            .map(|step| json!({"id": step.id(), "title": step.title()}))
            .collect();
        Ok(Preview {
            path: None,
            text: run
                .map(|run| format!("{}\n\n", resumes(&run, steps)))
                .unwrap_or_default()
                + &text(&survey, settings, operation, steps),
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
            warnings: unread.into_iter().collect(),
            refusals: refusal.into_iter().collect(),
        })
    }
}

fn text(survey: &Survey, settings: &Settings, operation: Operation, steps: &[Step]) -> String {
    let of = &settings.run.release;
    let workloads = survey.release.components.len();
    let interruption = if operation == Operation::Record {
        "Milvus is not stopped and the metadata is not changed."
    } else {
        "Milvus is unavailable from \"Stop every component\" until its proxies are started again. \
         The metadata is backed up before it is changed."
    };
    let mut text = format!(
        "{} in {}: {} → {}, metadata included\nMilvus        {}; image {}\nMetadata      {} under \
         {}\nInterruption  {interruption}\n",
        of.name,
        of.namespace,
        settings.source,
        settings.target,
        count(workloads, "workload"),
        survey.image,
        survey.endpoint.shown(),
        survey.endpoint.root_path,
    );
    for (number, step) in steps.iter().enumerate() {
        text.push_str(&format!("{:>3}. {}\n", number + 1, step.title()));
    }
    text
}
