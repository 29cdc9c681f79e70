//! Reads a crate's files: which modules there are, and which names each file uses of others.
//!
//! A use leads to the file that defines the name. A module that passes a name on with `pub use`
//! uses nothing thereby, nor does `mod child;`: so a child may take its parent's types while the
//! parent shows the child's. Tests are left out, wherever in a file they stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, ItemMod, ItemUse, Macro, UseTree, Visibility,
    ext::IdentExt as _,
    visit::{self, Visit},
};

/// Files by the files that they use, with the names.
pub(crate) type Edges = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// A crate as its files say it.
pub(crate) struct Source {
    modules: BTreeMap<Vec<String>, Module>,
}

/// One module, be it a file or a block.
#[derive(Default)]
struct Module {
    file: PathBuf,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    paths: BTreeSet<Vec<String>>,
}

/// A name that a `use` brings.
struct Import {
    name: String,
    path: Vec<String>,
    passed_on: bool,
}

/// What a path leads to.
enum Found {
    Module,
    Item(PathBuf),
}

// === impl Source ===

impl Source {
    /// Reads the crate whose root is `lib.rs` in this directory. Files are named from there.
    pub(crate) fn read(dir: &Path) -> Self {
        Self::from_files(&|file| fs::read_to_string(dir.join(file)).ok())
    }

    /// The same with what answers a file's text.
    pub(crate) fn from_files(read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut source = Self {
            modules: BTreeMap::new(),
        };
        source.read_file(Path::new("lib.rs"), Path::new(""), Vec::new(), read);
        source
    }

    /// Every file.
    pub(crate) fn files(&self) -> BTreeSet<&Path> {
        self.modules.values().map(|m| m.file.as_path()).collect()
    }

    /// Other crates that files name.
    pub(crate) fn crates(&self) -> BTreeSet<(&Path, &str)> {
        let mut found = BTreeSet::new();
        for (at, module) in &self.modules {
            let imports = module.imports.iter().map(|import| &import.path);
            for path in imports.chain(&module.paths) {
                if path.len() > 1 && self.find(at, path, 0).is_none() {
                    found.insert((module.file.as_path(), path[0].as_str()));
                }
            }
        }
        found
    }

    /// Which file uses which, and what of it.
    pub(crate) fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (at, module) in &self.modules {
            let imports = module.imports.iter().filter(|import| !import.passed_on);
            let paths = imports.map(|import| &import.path).chain(&module.paths);
            for path in paths {
                let Some(Found::Item(file)) = self.find(at, path, 0) else {
                    continue;
                };
                if file != module.file {
                    let used = edges.entry(module.file.clone()).or_default();
                    used.entry(file).or_default().insert(path.join("::"));
                }
            }
        }
        edges
    }

    fn read_file(
        &mut self,
        file: &Path,
        children: &Path,
        at: Vec<String>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let text = read(file).unwrap_or_else(|| panic!("{} can't be read", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(&parsed.items, file, children, at, read);
    }

    fn read_items(
        &mut self,
        items: &[Item],
        file: &Path,
        children: &Path,
        at: Vec<String>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            let Item::Mod(child) = item else {
                module.items.extend(name(item));
                module.visit_item(item);
                continue;
            };
            let name = child.ident.to_string();
            let below = children.join(&name);
            let inside = [at.clone(), vec![name]].concat();
            match &child.content {
                Some((_, items)) => self.read_items(items, file, &below, inside, read),
                None => {
                    let flat = below.with_extension("rs");
                    let own = match read(&flat) {
                        Some(_) => flat,
                        None => below.join("mod.rs"),
                    };
                    self.read_file(&own, &below, inside, read);
                }
            }
        }
        self.modules.insert(at, module);
    }

    fn find(&self, at: &[String], path: &[String], steps: u32) -> Option<Found> {
        // A name may be imported from where it is imported from here.
        if steps > 32 {
            return None;
        }
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.below(&[], rest, steps),
            "self" => self.below(at, rest, steps),
            "super" => self.below(&at[..at.len().checked_sub(1)?], rest, steps),
            _ => self.below(at, path, steps),
        }
    }

    /// What a path leads to that begins in a module.
    fn below(&self, at: &[String], path: &[String], steps: u32) -> Option<Found> {
        let Some((first, rest)) = path.split_first() else {
            return Some(Found::Module);
        };
        if first == "super" {
            return self.find(at, path, steps + 1);
        }
        let child = [at, std::slice::from_ref(first)].concat();
        if self.modules.contains_key(&child) {
            return self.below(&child, rest, steps);
        }
        let module = self.modules.get(at)?;
        if module.items.contains(first) {
            return Some(Found::Item(module.file.clone()));
        }
        module.imports.iter().find_map(|import| {
            if import.name == *first {
                let further = [import.path.as_slice(), rest].concat();
                return self.find(at, &further, steps + 1);
            }
            if import.name == "*" {
                let further = [import.path.as_slice(), path].concat();
                return self.find(at, &further, steps + 1);
            }
            None
        })
    }
}

// === impl Module ===

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let test = matches!(item, ImplItem::Fn(function) if is_test(&function.attrs));
        if !test {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let passed_on = !matches!(item.vis, Visibility::Inherited);
        import(&item.tree, &mut Vec::new(), passed_on, &mut self.imports);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|s| s.ident.unraw().to_string());
        self.paths.insert(segments.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, found: &'ast Macro) {
        visit::visit_macro(self, found);
        self.read_tokens(found.tokens.clone());
    }
}

impl Module {
    /// Paths within a macro: names with `::` between them.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.paths.insert(std::mem::take(&mut path));
                    }
                    path.push(ident.unraw().to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.read_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            self.paths.insert(std::mem::take(&mut path));
            colons = 0;
        }
        self.paths.insert(path);
    }
}

fn import(tree: &UseTree, before: &mut Vec<String>, passed_on: bool, found: &mut Vec<Import>) {
    let mut add = |name: String, path: Vec<String>| {
        found.push(Import {
            name,
            path,
            passed_on,
        });
    };
    let with = |last: String| [before.as_slice(), &[last]].concat();
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.unraw().to_string());
            import(&path.tree, before, passed_on, found);
            before.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                import(tree, before, passed_on, found);
            }
        }
        UseTree::Name(name) if name.ident == "self" => {
            add(before.last().cloned().unwrap_or_default(), before.clone());
        }
        UseTree::Name(name) => {
            let name = name.ident.unraw().to_string();
            add(name.clone(), with(name));
        }
        UseTree::Rename(rename) => {
            add(
                rename.rename.to_string(),
                with(rename.ident.unraw().to_string()),
            );
        }
        UseTree::Glob(_) => add("*".into(), before.clone()),
    }
}

/// The name that an item defines.
fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.unraw().to_string())
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
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether it is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|condition| condition.is_ident("test"))
    })
}
