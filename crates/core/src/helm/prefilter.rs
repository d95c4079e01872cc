//! Which documents of a stored manifest need to be read at all: a release may hold a megabyte of
//! objects that no rule looks at.
//!
//! A document is passed over only where its text plainly says that it is of no interest. Whatever
//! is written in an unusual way is read.

use crate::{
    manifest::{
        Budget, Exceeded,
        budget::{MAX_DOCUMENT_BYTES, MAX_READ_BYTES},
    },
    milvus::dependency::may_be_ours,
};

/// Bytes that may be searched for names of objects, all names together: a second's work.
const MAX_SEARCHED: usize = 2 * 1024 * 1024 * 1024;

/// A document of a manifest: its text and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// From its first line to the next separator.
    pub text: &'a str,
    /// Position in the manifest, from 1.
    pub index: u32,
    /// Lines of the manifest before it.
    pub lines: u32,
}

impl Default for Part<'_> {
    /// The whole of an empty text.
    fn default() -> Self {
        Self {
            text: "",
            index: 1,
            lines: 0,
        }
    }
}

/// The documents of a manifest that a rule may look at. `is_named_elsewhere` tells whether another
/// text of the release names an object; `elsewhere` is how long these texts are together. Where the
/// text is not a plain series of documents, it is one part.
///
/// # Errors
/// Where there are more than a budget allows.
pub(super) fn parts<'a>(
    manifest: &'a str,
    is_named_elsewhere: &dyn Fn(&str) -> bool,
    elsewhere: usize,
    budget: &Budget<'_>,
) -> Result<Vec<Part<'a>>, Exceeded> {
    if manifest.starts_with('%')
        || manifest.contains("\n%")
        || manifest.contains("\n...")
        || manifest.contains('\r')
    {
        return Ok(vec![Part {
            text: manifest,
            index: 1,
            lines: 0,
        }]);
    }
    let mut parts = Vec::new();
    let mut sources = Vec::new();
    let (mut index, mut lines) = (1, 0);
    for text in split(manifest) {
        // An empty document at the start is none, as for the parser.
        let is_blank = is_blank(text);
        budget.objects(1)?;
        if !(index == 1 && is_blank) {
            let part = Part { text, index, lines };
            match interest(text) {
                _ if is_blank => {}
                Interest::None => {}
                _ if text.len() > MAX_DOCUMENT_BYTES => {
                    return Err(Exceeded::Document(MAX_DOCUMENT_BYTES));
                }
                Interest::Read => parts.push(part),
                Interest::IfNamed(name) => sources.push((part, name)),
            }
            index += 1;
        }
        lines += u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    }
    let mut read: usize = parts.iter().map(|part| part.text.len()).sum();
    if read > MAX_READ_BYTES {
        return Err(Exceeded::Read(MAX_READ_BYTES));
    }
    let searched = read + elsewhere;
    if sources.len().saturating_mul(searched) > MAX_SEARCHED {
        return Err(Exceeded::Names);
    }
    // Files and variables of anyone who may be Milvus. A name that stands anywhere in a text is
    // named, even if it means something else there.
    let mut named = Vec::new();
    for (part, name) in sources {
        budget.time()?;
        if parts.iter().any(|part| part.text.contains(name)) || is_named_elsewhere(name) {
            read += part.text.len();
            if read > MAX_READ_BYTES {
                return Err(Exceeded::Read(MAX_READ_BYTES));
            }
            named.push(part);
        }
    }
    parts.extend(named);
    parts.sort_by_key(|part| part.index);
    Ok(parts)
}

/// Whether a rule may look at a document, by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interest<'a> {
    /// It may.
    Read,
    /// A `ConfigMap` or a Secret: only if a document that is read names it.
    IfNamed(&'a str),
    /// It surely does not.
    None,
}

fn interest(text: &str) -> Interest<'_> {
    match plain_kind(text) {
        // An escape could hide a word.
        Some("Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob")
            if !may_be_ours(text) && !text.contains('\\') =>
        {
            Interest::None
        }
        Some("ConfigMap" | "Secret") => match plain_name(text) {
            Some(name) => Interest::IfNamed(name),
            None => Interest::Read,
        },
        Some(kind) if UNREAD.contains(&kind) => Interest::None,
        Some(_) | None => Interest::Read,
    }
}

/// The name of an object, if it is written plainly: in block style, without quotes or escapes.
fn plain_name(text: &str) -> Option<&str> {
    let (_, after) = text
        .split_once("\nmetadata:\n")
        .or_else(|| text.strip_prefix("metadata:\n").map(|after| ("", after)))?;
    let inside = after
        .lines()
        .take_while(|line| line.starts_with(' ') || line.trim().is_empty());
    let mut names = inside.filter_map(|line| line.strip_prefix("  name:"));
    let name = names.next()?.trim();
    let is_plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    (is_plain && names.next().is_none()).then_some(name)
}

/// Cuts at lines that begin with `---`, which no scalar can contain.
fn split(manifest: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(manifest);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut from = 0;
        let cut = loop {
            match text.get(from..).and_then(|tail| tail.find("\n---")) {
                None => break None,
                Some(at) => {
                    let end = from + at;
                    let after = text.get(end + 4..).unwrap_or_default();
                    if after.is_empty() || after.starts_with(['\n', ' ', '\t']) {
                        break Some(end);
                    }
                    from = end + 4;
                }
            }
        };
        let (part, tail) = match cut {
            Some(end) => (text.get(..=end).unwrap_or_default(), text.get(end + 1..)),
            None => (text, None),
        };
        rest = tail;
        Some(part)
    })
}

fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "---"
    })
}

/// The kind of a document that is written plainly; `None` if it may mean something else to a
/// parser.
fn plain_kind(text: &str) -> Option<&str> {
    let mut kind = None;
    for line in text.lines() {
        let bytes = line.as_bytes();
        match bytes.first() {
            None | Some(b' ' | b'#') => {}
            _ if line.starts_with("---") => {
                if !line.trim_end_matches('-').trim().is_empty()
                    && !line[3..].trim_start().starts_with('#')
                {
                    return None;
                }
            }
            // Items of a list may stand as far left as their key.
            Some(b'-') if kind.is_none() || bytes.get(1) == Some(&b' ') => {}
            Some(first) if first.is_ascii_alphabetic() => {
                let (key, value) = line.split_once(':')?;
                if !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return None;
                }
                if key == "kind" && kind.replace(value.trim()).is_some() {
                    return None;
                }
            }
            _ => return None,
        }
    }
    kind
}

/// Kinds that are common in charts and that no rule looks at.
const UNREAD: [&str; 13] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Ingress",
    "IngressClass",
    "Namespace",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "PodMonitor",
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "ServiceMonitor",
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::documents;

    fn deployment(image: &str) -> String {
        format!(
            "# Source: a.yaml\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\nspec:\n  image: {image}\n"
        )
    }

    #[rstest]
    #[case(&deployment("nginx:1"), true)]
    #[case(&deployment("milvusdb/milvus:v2.4.5"), false)]
    #[case(&deployment("\"mil\\x76us\""), false)]
    #[case("kind: Role\n", true)]
    #[case("kind: Role\nkind: Deployment\n", false)]
    #[case("kind: Role # plain\n", false)]
    #[case("\"kind\": Role\n", false)]
    #[case("{kind: Role}\n", false)]
    #[case("kind: Service\n", false)]
    #[case("kind: PersistentVolumeClaim\n", false)]
    #[case("kind: HorizontalPodAutoscaler\n", false)]
    #[case("kind: DaemonSet\nspec: nginx\n", true)]
    #[case("kind: Job\nspec: milvus\n", false)]
    #[case("kind:\n  Deployment\n", false)]
    #[case("kind: &a Role\n", false)]
    #[case("metadata: {name: \"a\nkind: Role\n\"}\nkind : Deployment\n", false)]
    #[case("subjects:\n- kind: x\nkind: RoleBinding\n", true)]
    #[case("", false)]
    fn only_what_is_plainly_foreign_is_passed_over(#[case] text: &str, #[case] foreign: bool) {
        assert_eq!(interest(text) == Interest::None, foreign);
    }

    #[rstest]
    #[case(
        "kind: ConfigMap\nmetadata:\n  labels:\n    a: b\n  name: own\ndata:\n  a: b\n",
        Interest::IfNamed("own")
    )]
    #[case("kind: Secret\nmetadata:\n  name: own\n", Interest::IfNamed("own"))]
    #[case("kind: Secret\nmetadata:\n  name: \"own\"\n", Interest::Read)]
    #[case("kind: Secret\nmetadata: {name: own}\n", Interest::Read)]
    #[case("kind: Secret\nmetadata:\n  name: a\n  name: b\n", Interest::Read)]
    #[case("kind: Secret\nmetadata:\n    name: own\n", Interest::Read)]
    fn files_and_variables_are_read_if_they_are_named(
        #[case] text: &str,
        #[case] expected: Interest<'_>,
    ) {
        assert_eq!(interest(text), expected);
        let user = deployment("milvusdb/milvus:v2.4.5") + "  envFrom: own\n";
        let read = |user: &str| {
            parts(
                &format!("{text}---\n{user}"),
                &|_| false,
                0,
                &Budget::default(),
            )
            .unwrap()
            .len()
        };
        assert_eq!(read(&user), 2);
        let other = deployment("milvusdb/milvus:v2.4.5");
        assert_eq!(read(&other), if expected == Interest::Read { 2 } else { 1 });
    }

    #[test]
    fn positions_are_those_of_the_parser() {
        let texts = [
            "a: 1\n",
            "kind: Role\n",
            "b: 2\n---x: 3\n",
            "c: |\n  ---\n  d\n",
        ];
        for start in ["", "---\n", "\n---\n", "# a comment\n---\n"] {
            let manifest = format!("{start}{}", texts.join("---\n"));
            let read = parts(&manifest, &|_| false, 0, &Budget::default()).unwrap();
            assert_eq!(
                read.iter().map(|part| part.index).collect::<Vec<_>>(),
                [1, 3, 4],
                "{read:?}"
            );
            for part in &read {
                let line = manifest.lines().nth(part.lines as usize);
                assert_eq!(line, part.text.lines().next(), "{read:?}");
            }
            let read = read
                .iter()
                .flat_map(|part| documents(part.text))
                .map(|document| document.unwrap().root.to_json());
            let all = documents(&manifest).map(|document| document.unwrap().root.to_json());
            assert!(
                read.eq(all.filter(|document| document["kind"] != "Role")),
                "{start:?}"
            );
        }
    }

    #[test]
    fn what_is_too_much_is_no_part() {
        fn of(text: &str) -> Result<Vec<Part<'_>>, Exceeded> {
            parts(text, &|_| false, 0, &Budget::default())
        }
        assert_eq!(
            of(&"---\n".repeat(9_000)),
            Ok(vec![]),
            "an empty document is not a part"
        );
        assert!(matches!(
            of(&"---\n".repeat(20_000)),
            Err(Exceeded::Objects(_))
        ));
        assert!(matches!(
            of(&"---\na: 1\n".repeat(20_000)),
            Err(Exceeded::Objects(_))
        ));
        let sources: String = (0..9_000)
            .map(|n| format!("---\nkind: Secret\nmetadata:\n  name: s{n}\n"))
            .collect();
        assert_eq!(
            of(&format!(
                "{sources}---\nkind: Pod\n# {}\n",
                "x".repeat(300_000)
            )),
            Err(Exceeded::Names)
        );
        assert_eq!(
            of(&format!(
                "kind: Pod\n# {}\n",
                "x".repeat(MAX_DOCUMENT_BYTES)
            )),
            Err(Exceeded::Document(MAX_DOCUMENT_BYTES))
        );
        assert_eq!(
            of(&format!(
                "kind: Role\n# {}\n",
                "x".repeat(MAX_DOCUMENT_BYTES)
            )),
            Ok(vec![]),
            "no one reads it"
        );
    }

    #[test]
    fn what_is_no_plain_series_is_one_part() {
        for text in [
            "%YAML 1.2\n---\na: 1\n",
            "a: 1\n...\n---\nb: 2\n",
            "a: 1\r\n---\r\nb: 2\r\n",
        ] {
            assert_eq!(
                parts(text, &|_| false, 0, &Budget::default()),
                Ok(vec![Part {
                    text,
                    index: 1,
                    lines: 0
                }])
            );
        }
    }
}
