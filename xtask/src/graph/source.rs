//! Reads the sources of the crates as modules: what each defines, re-exports and uses. The parent
//! module builds the graph from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, ItemUse, Macro, UseTree,
    visit::{self, Visit},
};

/// Prefix of the names of our libraries.
const LIBRARY: &str = "milvus_guard_";

/// Most re-exports of an item that are followed to its definition.
const MAX_EXPORTS: u8 = 16;

/// A path of names; the path of a module begins with its crate.
pub type Names = Vec<String>;

/// The modules of all crates.
pub type Modules = BTreeMap<Names, Module>;

/// The content of one file.
#[derive(Debug, Default)]
pub struct Module {
    /// Names of the items that it defines.
    items: BTreeSet<String>,
    /// Paths that it imports or re-exports, by their name in this module.
    imports: BTreeMap<String, Names>,
    /// Modules of which it imports everything.
    globs: Vec<Names>,
    /// Each path in its code, as written.
    pub uses: BTreeSet<Names>,
}

/// Reads the program in `src` and the crates below `crates`.
///
/// # Errors
/// A file that cannot be read, or is not Rust.
pub fn read(root: &Path) -> Result<Modules, String> {
    let mut modules = Modules::new();
    let mut crates = vec![("program".to_owned(), root.join("src"))];
    for path in entries(&root.join("crates"))? {
        crates.push((stem(&path), path.join("src")));
    }
    for (name, source) in crates {
        let file = ["lib.rs", "main.rs"]
            .map(|file| source.join(file))
            .into_iter()
            .find(|file| file.is_file())
            .ok_or_else(|| format!("{}: has no lib.rs and no main.rs", source.display()))?;
        add(&mut modules, &[name], &file, &source)?;
    }
    Ok(modules)
}

/// Adds a module, and the modules in its folder. Modules are found by their files, because macros
/// declare some of them.
fn add(modules: &mut Modules, path: &[String], file: &Path, folder: &Path) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (module, only_tests) =
        parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    modules.insert(path.to_vec(), module);
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in entries(folder)? {
        let name = stem(&entry);
        let is_module = entry.is_dir() || entry.extension().is_some_and(|end| end == "rs");
        if !is_module
            || only_tests.contains(&name)
            || ["lib", "main", "mod"].contains(&name.as_str())
        {
            continue;
        }
        let (file, folder) = (folder.join(format!("{name}.rs")), folder.join(&name));
        let file = Some(file)
            .filter(|file| file.is_file())
            .unwrap_or_else(|| folder.join("mod.rs"));
        let path = [path, &[name]].concat();
        if file.is_file() && !modules.contains_key(&path) {
            add(modules, &path, &file, &folder)?;
        }
    }
    Ok(())
}

/// Parses a file. Also returns the names of its modules for tests.
fn parse(text: &str) -> Result<(Module, BTreeSet<String>), syn::Error> {
    let file = syn::parse_file(text)?;
    let mut reader = Reader::default();
    for item in &file.items {
        if let Item::Mod(module) = item
            && module.content.is_none()
            && is_test(&module.attrs)
        {
            reader.only_tests.insert(module.ident.to_string());
        }
        if !is_test(attributes(item)) {
            reader.module.items.extend(name(item));
        }
    }
    reader.visit_file(&file);
    Ok((reader.module, reader.only_tests))
}

/// The module that defines the item of a path in the module `from`; `None` if it is not ours.
pub fn resolve(modules: &Modules, from: &[String], path: &[String]) -> Option<Names> {
    follow(modules, from, path, MAX_EXPORTS)
}

fn follow(modules: &Modules, from: &[String], path: &[String], left: u8) -> Option<Names> {
    let left = left.checked_sub(1)?;
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => walk(modules, from.get(..1)?, rest, left),
        "self" => walk(modules, from, rest, left),
        "super" => {
            let parent = from.get(..from.len().checked_sub(1)?)?;
            match rest.first() {
                Some(next) if next == "super" => follow(modules, parent, rest, left),
                _ => walk(modules, parent, rest, left),
            }
        }
        _ => {
            if let Some(library) = first.strip_prefix(LIBRARY) {
                return walk(modules, &[library.to_owned()], rest, left);
            }
            let child = [from, std::slice::from_ref(first)].concat();
            let imported = modules.get(from)?.imports.get(first);
            match imported {
                _ if modules.contains_key(&child) => walk(modules, from, path, left),
                Some(imported) if imported != path => {
                    follow(modules, from, &[imported, rest].concat(), left)
                }
                _ => None,
            }
        }
    }
}

/// Follows the names of modules from a module, then finds the module that defines the next name.
fn walk(modules: &Modules, from: &[String], path: &[String], left: u8) -> Option<Names> {
    let module = modules.get(from)?;
    let Some((first, rest)) = path.split_first() else {
        return Some(from.to_vec());
    };
    let child = [from, std::slice::from_ref(first)].concat();
    if modules.contains_key(&child) {
        return walk(modules, &child, rest, left);
    }
    if module.items.contains(first) {
        return Some(from.to_vec());
    }
    if let Some(imported) = module.imports.get(first) {
        return follow(modules, from, &[imported, rest].concat(), left);
    }
    let exported = module
        .globs
        .iter()
        .filter_map(|glob| follow(modules, from, glob, left))
        .find(|glob| {
            modules.get(glob).is_some_and(|module| {
                module.items.contains(first) || module.imports.contains_key(first)
            })
        });
    Some(exported.unwrap_or_else(|| from.to_vec()))
}

#[derive(Default)]
struct Reader {
    module: Module,
    only_tests: BTreeSet<String>,
}

impl Reader {
    fn import(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.import(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let path = if name == "self" {
                    prefix.to_vec()
                } else {
                    with(name)
                };
                self.bind(path.last().cloned().unwrap_or_default(), path);
            }
            UseTree::Rename(rename) => {
                let name = rename.ident.to_string();
                let path = if name == "self" {
                    prefix.to_vec()
                } else {
                    with(name)
                };
                self.bind(rename.rename.to_string(), path);
            }
            UseTree::Glob(_) => {
                self.module.uses.insert(prefix.to_vec());
                self.module.globs.push(prefix.to_vec());
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(prefix, tree);
                }
            }
        }
    }

    fn bind(&mut self, name: String, path: Names) {
        self.module.uses.insert(path.clone());
        self.module.imports.insert(name, path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        // The syntax tree of an import is not a path.
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        // A re-exported item is used by the modules that import it, not here.
        if matches!(item.vis, syn::Visibility::Inherited) {
            self.import(&[], &item.tree);
        } else {
            let known = self.module.uses.clone();
            self.import(&[], &item.tree);
            self.module.uses = known;
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if names.len() > 1 {
            self.module.uses.insert(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        // The arguments are tokens, with spaces between them.
        let tokens = call.tokens.to_string();
        let mut names: Names = Vec::new();
        let mut words = tokens
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != ':')
            .filter(|word| !word.is_empty())
            .peekable();
        while let Some(word) = words.next() {
            if word != "::" {
                names.push(word.to_owned());
            }
            if words.peek() != Some(&"::") && word != "::" {
                if names.len() > 1 {
                    self.module.uses.insert(std::mem::take(&mut names));
                }
                names.clear();
            }
        }
        visit::visit_macro(self, call);
    }
}

/// Whether an item is for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg = attribute.path().is_ident("cfg");
        let condition = attribute
            .meta
            .require_list()
            .map(|list| list.tokens.to_string());
        is_cfg
            && condition.is_ok_and(|condition| {
                condition == "test"
                    || condition.starts_with("any (test")
                    || condition.starts_with("any(test")
            })
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let why = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(why)? {
        found.push(entry.map_err(why)?.path());
    }
    found.sort();
    Ok(found)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

    use super::*;

    fn modules(files: &[(&str, &str)]) -> Modules {
        let module = |(path, text): &(&str, &str)| {
            let names = path.split("::").map(str::to_owned).collect();
            (names, parse(text).unwrap().0)
        };
        files.iter().map(module).collect()
    }

    fn used(modules: &Modules, from: &str) -> BTreeSet<String> {
        let from: Names = from.split("::").map(str::to_owned).collect();
        modules[&from]
            .uses
            .iter()
            .filter_map(|path| resolve(modules, &from, path))
            .filter(|path| *path != from)
            .map(|path| path.join("::"))
            .collect()
    }

    #[test]
    fn every_form_of_an_import_counts_and_comments_and_tests_do_not() {
        let code = "
            //! [`crate::comment`] [`milvus_guard_core::comment`]
            use milvus_guard_core::{five, six::{A, seven}};
            use milvus_guard_sources::etcd::Store;
            fn g() { milvus_guard_core::text::plain(); println!(\"{}\", crate::eight::f(1)); }
            use crate::{one::{A, b::C}, two as second};
            fn f() { crate::three::g(); second::h(); }
            use super::four;
            use std::fmt;
            #[cfg(test)]
            mod tests { use crate::comment; }
            #[cfg(test)]
            fn only_tests() { crate::comment::f() }";
        let empty = [
            "core",
            "core::comment",
            "core::five",
            "core::six",
            "core::text",
            "sources",
            "sources::etcd",
            "webhook",
            "webhook::comment",
            "webhook::one",
            "webhook::one::b",
            "webhook::two",
            "webhook::three",
            "webhook::four",
            "webhook::eight",
        ];
        let mut files: Vec<(&str, &str)> = empty.iter().map(|path| (*path, "")).collect();
        files.push(("webhook::here", code));
        let found: Vec<String> = used(&modules(&files), "webhook::here")
            .into_iter()
            .collect();
        let expected = [
            "core::five",
            "core::six",
            "core::text",
            "sources::etcd",
            "webhook::eight",
            "webhook::four",
            "webhook::one",
            "webhook::one::b",
            "webhook::three",
            "webhook::two",
        ];
        assert_eq!(found, expected);
        let declared = "mod a;\n#[cfg(test)]\npub(crate) mod b;\n#[cfg(any(test, feature = \"testkit\"))]\nmod c;";
        assert_eq!(parse(declared).unwrap().1.len(), 2);
    }

    #[test]
    fn a_re_exported_item_counts_in_the_module_that_defines_it() {
        let all = modules(&[
            ("core", "mod a; pub mod b;"),
            (
                "core::a",
                "use crate::b::{Deep, Own, renamed::Kept}; use super::b::far;",
            ),
            (
                "core::b",
                "mod deep; pub use deep::{Deep, inner as renamed}; pub use deep::*; pub struct Own;",
            ),
            (
                "core::b::deep",
                "pub mod inner; pub struct Deep; pub fn far() {}",
            ),
            ("core::b::deep::inner", "pub struct Kept;"),
        ]);
        let found: Vec<String> = used(&all, "core::a").into_iter().collect();
        assert_eq!(found, ["core::b", "core::b::deep", "core::b::deep::inner"]);
        assert!(used(&all, "core::b").is_empty(), "a re-export is not a use");
    }
}
