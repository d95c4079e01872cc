//! MG406: a Service named like a dependency breaks Milvus' configuration.

use crate::change::Upgrade;

use super::{Category, DefaultAction, Findings, Missing, Need, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    id: "MG406",
    name: "shadowing-service",
    title: "no Service overrides Milvus' settings",
    category: Category::Dependencies,
    default: DefaultAction::Warn,
    data_loss: false,
    behavior: &[],
    since: "0.1.0",
    needs: &[Need::After],
    what: "Warns about Services named minio, etcd, kafka or pulsar in Milvus' own namespace.",
    why: "Kubernetes injects MINIO_PORT=tcp://... into every pod that starts afterwards, Milvus reads it as minio.port, and \
          coordinators and nodes stop with 'Endpoint url cannot have fully qualified paths'.",
    example: "A Service named minio in the namespace of my-release-milvus.",
    fix: "Rename the Service or move it to another namespace.",
    sources: &["measured on a real cluster"],
    check,
};

fn check(upgrade: &Upgrade<'_>, findings: &mut Findings) {
    if upgrade.after.services.is_empty() {
        findings.not_evaluated(Missing::fact(
            "the input does not contain Services of the namespace",
            "Add the output of kubectl get service -n NAMESPACE -o yaml to the input, or judge the \
             release in the cluster (milvus-guard check -i NAME -t VERSION, milvus-guard audit -i \
             NAME).",
        ));
    } else {
        findings.checked();
    }
    for service in upgrade.after.services.iter() {
        if upgrade
            .catalogue
            .dependencies
            .shadowing_services
            .contains(&service.object.name)
        {
            findings
                .warn(format!(
                    "the Service {} overrides settings of Milvus in the same namespace",
                    service.object.name
                ))
                .object(service);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::RULE;
    use crate::{
        manifest::object::Object,
        milvus::snapshot::Builder,
        rules::testing::{Fixture, judge, objects},
    };

    #[rstest]
    #[case("minio", "", 1)]
    #[case("kafka", "", 1)]
    #[case("my-release-minio", "", 0)]
    #[case("minio", ", namespace: deps", 0)]
    #[case("minio", ", namespace: milvus", 1)]
    fn services(#[case] name: &str, #[case] namespace: &str, #[case] found: usize) {
        let after = Fixture::cluster("2.4.5").object(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}{namespace}}}\n"
        ));
        let findings = judge(&RULE, None, &after);
        assert_eq!(
            findings
                .iter()
                .filter(|finding| !finding.not_evaluated)
                .count(),
            found
        );
    }

    #[test]
    fn a_service_without_a_namespace_is_in_that_of_the_release() {
        let fixture = Fixture::cluster("2.4.5")
            .object("apiVersion: v1\nkind: Service\nmetadata: {name: minio}\n");
        let mut builder = Builder::default();
        for mut object in objects(&fixture) {
            if let Object::Service(meta) = &mut object {
                meta.object.namespace = None;
            }
            builder.add(object);
        }
        let release = &builder.build().releases[0];
        assert!(release.namespace.is_some());
        assert_eq!(release.services.len(), 1);
    }
}
