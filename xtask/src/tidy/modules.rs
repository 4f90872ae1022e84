//! The module trees of the workspace's crates, and the files that their paths lead to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemMod, ItemUse, Meta, UseTree,
    punctuated::Punctuated,
    visit::{self, Visit},
};

use super::SourceFile;

/// A path as written, for example `super::state::State`, and its line (from 1).
#[derive(Clone, Debug)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// The target of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An item of this module of the workspace.
    Module(ModuleId),
    /// Something outside the workspace, or a local name.
    External(Vec<String>),
}

/// The index of a module in [`Modules`].
pub(super) type ModuleId = usize;

/// A module, in a file of its own or inline.
pub(super) struct Module {
    /// The path of its file relative to the root of the repository.
    pub(super) file: String,
    pub(super) parent: Option<ModuleId>,
    /// Every path that it names outside of `#[cfg(test)]`, with imports expanded.
    pub(super) paths: Vec<NamedPath>,
    children: BTreeMap<String, ModuleId>,
    /// The local names of its imports, and their paths.
    imports: BTreeMap<String, Vec<String>>,
    /// The modules that it imports with `*`.
    globs: Vec<Vec<String>>,
    /// The items that it defines.
    items: BTreeSet<String>,
}

/// All modules of all crates.
pub(super) struct Modules {
    modules: Vec<Module>,
    /// The libraries, by their crate names.
    libraries: BTreeMap<String, ModuleId>,
}

/// Maximum number of re-exports in a chain.
const MAX_DEPTH: usize = 16;

impl Modules {
    /// Parses every crate whose root is among `files`.
    pub(super) fn parse(files: &[SourceFile]) -> anyhow::Result<Self> {
        let texts: BTreeMap<_, _> = files.iter().map(|file| (&*file.path, &*file.text)).collect();
        let mut modules = Self { modules: Vec::new(), libraries: BTreeMap::new() };
        for root in texts.keys().filter(|path| is_crate_root(path)) {
            let folder = folder_of(root);
            let id = modules.add_file(root, folder, None, &texts)?;
            if let Some(package) = root.strip_suffix("src/lib.rs") {
                let manifest = texts.get(&*format!("{package}Cargo.toml")).copied();
                let name = manifest.and_then(package_name).unwrap_or("?");
                modules.libraries.insert(name.replace('-', "_"), id);
            }
        }
        Ok(modules)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ModuleId, &Module)> {
        self.modules.iter().enumerate()
    }

    pub(super) fn get(&self, id: ModuleId) -> &Module {
        &self.modules[id]
    }

    /// Whether one of the modules is the other, or contains it.
    pub(super) fn are_related(&self, a: ModuleId, b: ModuleId) -> bool {
        let contains = |outer, inner| self.ancestors(inner).any(|module| module == outer);
        contains(a, b) || contains(b, a)
    }

    /// Resolves a path that module `from` names, through re-exports.
    pub(super) fn resolve(&self, from: ModuleId, path: &[String]) -> Target {
        self.resolve_within(from, path, MAX_DEPTH)
    }

    fn resolve_within(&self, from: ModuleId, path: &[String], depth: usize) -> Target {
        let Some((first, rest)) = path.split_first().filter(|_| depth > 0) else {
            return Target::Module(from);
        };
        let module = &self.modules[from];
        let root = self.ancestors(from).last().unwrap_or(from);
        let start = match &**first {
            "crate" => Some(root),
            "self" => Some(from),
            "super" => module.parent,
            name => module.children.get(name).copied(),
        };
        if let Some(start) = start {
            return self.descend(start, rest, depth);
        }
        if let Some(import) = module.imports.get(first).filter(|import| import[..] != path[..1]) {
            return self.resolve_within(from, &[import, rest].concat(), depth - 1);
        }
        match self.libraries.get(first) {
            Some(&library) => self.descend(library, rest, depth),
            None => Target::External(path.to_vec()),
        }
    }

    /// Resolves the rest of a path below module `at`.
    fn descend(&self, at: ModuleId, path: &[String], depth: usize) -> Target {
        let Some((first, rest)) = path.split_first() else { return Target::Module(at) };
        let module = &self.modules[at];
        if first == "super" {
            return self.descend(module.parent.unwrap_or(at), rest, depth);
        }
        if let Some(&child) = module.children.get(first) {
            return self.descend(child, rest, depth);
        }
        if module.items.contains(first) || depth == 0 {
            return Target::Module(at);
        }
        if let Some(import) = module.imports.get(first) {
            return self.resolve_within(at, &[import, rest].concat(), depth - 1);
        }
        for glob in &module.globs {
            if let Target::Module(source) = self.resolve_within(at, glob, depth - 1)
                && source != at
                && self.modules[source].has(first)
            {
                return self.descend(source, path, depth - 1);
            }
        }
        Target::Module(at)
    }

    /// The module itself, its parent and so on.
    fn ancestors(&self, module: ModuleId) -> impl Iterator<Item = ModuleId> {
        std::iter::successors(Some(module), |&module| self.modules[module].parent)
    }

    /// Adds the module of a file and its descendants. `folder` is the directory of their files.
    fn add_file(
        &mut self,
        path: &str,
        folder: &str,
        parent: Option<ModuleId>,
        texts: &BTreeMap<&str, &str>,
    ) -> anyhow::Result<ModuleId> {
        let syntax =
            syn::parse_file(texts[path]).with_context(|| format!("cannot parse {path}"))?;
        self.add(path, folder, parent, &syntax.items, texts)
    }

    fn add(
        &mut self,
        file: &str,
        folder: &str,
        parent: Option<ModuleId>,
        items: &[Item],
        texts: &BTreeMap<&str, &str>,
    ) -> anyhow::Result<ModuleId> {
        let mut names = Names::default();
        for item in items {
            names.visit_item(item);
        }
        let id = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            paths: names.paths,
            children: BTreeMap::new(),
            imports: names.imports,
            globs: names.globs,
            items: names.items,
        });
        for child in items.iter().filter_map(|item| match item {
            Item::Mod(child) if !is_for_tests(&child.attrs) => Some(child),
            _ => None,
        }) {
            if let Some(child_id) = self.add_child(file, folder, id, child, texts)? {
                self.modules[id].children.insert(child.ident.to_string(), child_id);
            }
        }
        Ok(id)
    }

    fn add_child(
        &mut self,
        file: &str,
        folder: &str,
        parent: ModuleId,
        child: &ItemMod,
        texts: &BTreeMap<&str, &str>,
    ) -> anyhow::Result<Option<ModuleId>> {
        let below = join(folder, &child.ident.to_string());
        if let Some((_, items)) = &child.content {
            return self.add(file, &below, Some(parent), items, texts).map(Some);
        }
        let written = written_path(&child.attrs);
        let is_written = written.is_some();
        let path = match written {
            Some(path) => join(folder_of(file), &path),
            None => [format!("{below}.rs"), format!("{below}/mod.rs")]
                .into_iter()
                .find(|path| texts.contains_key(&**path))
                .with_context(|| format!("{file}: there is no file for `mod {}`", child.ident))?,
        };
        // A path may lead to the output of a build script.
        if !texts.contains_key(&*path) {
            return Ok(None);
        }
        // A module of `a.rs` is in the directory `a`, unless a path leads to `a.rs`.
        let below = match is_written || path.ends_with("/mod.rs") {
            true => folder_of(&path).to_owned(),
            false => below,
        };
        self.add_file(&path, &below, Some(parent), texts).map(Some)
    }
}

impl Module {
    /// Whether the module defines or re-exports this name.
    fn has(&self, name: &str) -> bool {
        self.items.contains(name)
            || self.imports.contains_key(name)
            || self.children.contains_key(name)
    }
}

/// Whether cargo would take the file as the root of a crate.
fn is_crate_root(path: &str) -> bool {
    let Some((folder, file)) = path.rsplit_once('/') else { return false };
    let (above, last) = folder.rsplit_once('/').unwrap_or(("", folder));
    let is_target_folder =
        |name: &str| matches!(name, "bin" | "tests" | "benches" | "examples" | "fuzz_targets");
    let is_targets = |path: &str| {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_in_src = format!("{above}/").contains("/src/");
        is_target_folder(name) && is_in_src == (name == "bin")
    };
    match file {
        "lib.rs" => last == "src",
        "main.rs" => last == "src" || is_targets(above),
        "build.rs" => !path.contains("/src/") && !path.contains("/tests/"),
        _ => file.ends_with(".rs") && is_targets(folder),
    }
}

/// The name in a manifest; in ours the package's own name comes first.
fn package_name(manifest: &str) -> Option<&str> {
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \""))?;
    name.strip_suffix('"')
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Joins a directory and a path that may begin with `../`.
fn join(folder: &str, path: &str) -> String {
    match path.strip_prefix("../") {
        Some(path) => join(folder_of(folder), path),
        None if folder.is_empty() => path.to_owned(),
        None => format!("{folder}/{path}"),
    }
}

/// The path in `#[path = "…"]`.
fn written_path(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    })
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(meta) => meta.path.is_ident("cfg") && meta.tokens.to_string() == "test",
        _ => attribute.path().is_ident("test"),
    })
}

/// Collects the names in the items of a module.
#[derive(Default)]
struct Names {
    paths: Vec<NamedPath>,
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    items: BTreeSet<String>,
    /// Nesting of the visited items.
    depth: usize,
}

impl Names {
    fn import(&mut self, parents: &[String], tree: &UseTree) {
        let with = |ident: &syn::Ident| {
            let mut segments = parents.to_vec();
            // `use std::fs::{self}` imports `std::fs`.
            if ident != "self" || segments.is_empty() {
                segments.push(ident.to_string());
            }
            segments
        };
        let (segments, name, line) = match tree {
            UseTree::Path(path) => return self.import(&with(&path.ident), &path.tree),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(parents, tree));
            }
            UseTree::Glob(glob) => {
                self.globs.push(parents.to_vec());
                (parents.to_vec(), None, glob.star_token.spans[0].start().line)
            }
            UseTree::Name(name) => {
                let segments = with(&name.ident);
                (segments.clone(), segments.last().cloned(), name.ident.span().start().line)
            }
            UseTree::Rename(rename) => {
                let name = rename.rename.to_string();
                (with(&rename.ident), Some(name), rename.ident.span().start().line)
            }
        };
        if let Some(name) = name {
            self.imports.insert(name, segments.clone());
        }
        self.paths.push(NamedPath { segments, line });
    }

    /// Finds the paths in the arguments of a macro.
    fn in_tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        let mut end = |segments: &mut Vec<String>, line| {
            let segments = std::mem::take(segments);
            if segments.len() > 1 {
                self.paths.push(NamedPath { segments, line });
            }
        };
        let mut groups = Vec::new();
        for token in tokens {
            match token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        end(&mut segments, line);
                        line = word.span().start().line;
                    }
                    segments.push(word.to_string());
                    colons = 0;
                }
                other => {
                    end(&mut segments, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        groups.push(group.stream());
                    }
                }
            }
        }
        end(&mut segments, line);
        groups.into_iter().for_each(|group| self.in_tokens(group));
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Use(item) => (&item.attrs, None),
            // A module has names of its own.
            Item::Mod(_) => return,
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        if let Some(name) = name.filter(|_| self.depth == 0) {
            self.items.insert(name.to_string());
        }
        self.depth += 1;
        visit::visit_item(self, item);
        self.depth -= 1;
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let is_for_tests = matches!(item, ImplItem::Fn(function) if is_for_tests(&function.attrs));
        if !is_for_tests {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let line = path.segments[0].ident.span().start().line;
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.paths.push(NamedPath { segments, line });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.in_tokens(call.tokens.clone());
    }

    /// Visits attributes such as `#[derive(clap::Args)]`.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("derive")
            && let Ok(derived) =
                attribute.parse_args_with(Punctuated::<syn::Path, syn::Token![,]>::parse_terminated)
        {
            derived.iter().for_each(|path| self.visit_path(path));
        }
    }
}
