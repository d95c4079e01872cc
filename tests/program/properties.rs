//! Properties of any input: readers of untrusted text never panic, and text that they accept is
//! read back unchanged.

use milvus_guard_core::{
    helm::codec::decode_payload,
    manifest::{Node, documents},
    milvus::{Build, ImageRef, Range, Version, catalogue::Catalogue, endpoint::Host},
};
use milvus_guard_sources::files::{Role, objects::Collector};
use proptest::prelude::*;

/// Text that is close to YAML: indentation, markers and quotes in any order.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("- "),
        Just(": "),
        Just("\n"),
        Just("  "),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just("&a "),
        Just("*a"),
        Just("---\n"),
        Just("|\n"),
        Just(">\n"),
        Just("\""),
        Just("'"),
        Just("!!str "),
        Just("#"),
        Just("kind: Deployment\n"),
        Just("metadata:\n"),
        Just("name: x\n"),
        Just("spec:\n"),
        Just("\t"),
        Just("\u{85}"),
        Just("🦀"),
        Just("0x1f"),
        Just("? "),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn documents_never_panic(text in prop_oneof![yamlish(), ".{0,300}"]) {
        for document in documents(&text) {
            let Ok(document) = document else { break };
            let again = Node::from_json(&document.root.to_json());
            prop_assert_eq!(again.to_json(), document.root.to_json());
        }
    }

    #[test]
    fn collectors_never_panic(text in yamlish()) {
        let mut collector = Collector::new(Role::After, Some("milvus"));
        if collector.add_text(&text, "x").is_ok() {
            let _ = collector.finish("x");
        }
    }

    #[test]
    fn helm_payloads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_payload(&bytes);
    }

    #[test]
    fn data_files_never_panic(text in yamlish()) {
        let _ = Catalogue::with("x", &text);
    }

    #[test]
    fn images_are_parsed_and_printed_unchanged(
        host in proptest::option::of("[a-z]{1,8}\\.[a-z]{2,3}(:[0-9]{2,5})?"),
        path in "[a-z]{1,8}(/[a-z]{1,8}){0,2}",
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9._-]{0,20}"),
        digest in proptest::bool::ANY,
    ) {
        let mut text = host.map_or(String::new(), |host| format!("{host}/")) + &path;
        if let Some(tag) = &tag { text = format!("{text}:{tag}"); }
        if digest { text = format!("{text}@sha256:{}", "ab".repeat(32)); }
        let image = ImageRef::parse(&text);
        prop_assert_eq!(image.to_string(), text);
        prop_assert_eq!(image.tag, tag);
    }

    #[test]
    fn any_text_is_an_image_reference(text in ".{0,80}") {
        let image = ImageRef::parse(&text);
        let _ = (image.build(), image.path().len(), image.registry().map(str::len), image.name().len());
        let _ = image.at(&Build::of(Version::new(2, 5, 27)));
    }

    #[test]
    fn tags_never_panic_and_releases_are_parsed_and_printed_unchanged(major in 0u16..9, minor in 0u16..30, patch in 0u16..99, junk in ".{0,20}") {
        let build: Build = format!("v{major}.{minor}.{patch}").parse().unwrap();
        prop_assert_eq!(build.to_string(), format!("{major}.{minor}.{patch}"));
        let _ = Build::from_tag(&junk);
        let _ = Build::from_tag(&format!("v{major}.{minor}.{patch}-{junk}"));
    }

    #[test]
    fn ranges_are_printed_unchanged_and_agree_with_comparisons(a in 0u16..40, b in 0u16..40, c in 0u16..40) {
        let (low, high) = (Version::new(2, a.min(b), 0), Version::new(2, a.max(b), 0));
        let range: Range = format!(">={low},<{high}").parse().unwrap();
        prop_assert_eq!(range.to_string().parse::<Range>().unwrap(), range.clone());
        let version = Version::new(2, c, 3);
        prop_assert_eq!(range.contains(version), version >= low && version < high);
    }

    #[test]
    fn hosts_never_panic_and_match_their_service(text in ".{0,60}", service in "[a-z]{1,10}", namespace in "[a-z]{1,10}") {
        let _ = Host::parse(&text, Some("milvus"));
        let short = Host::parse(&format!("{service}:1"), Some(&namespace));
        prop_assert_eq!(short, Host::parse(&format!("http://{service}.{namespace}.svc.cluster.local:1"), Some(&namespace)));
    }
}
