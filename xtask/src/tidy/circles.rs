//! No file imports, directly or through others, a file that imports it, so that each can be read and
//! tested by itself. A module and its descendants may name each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Violation,
    modules::{Modules, Target},
};

/// The files that each file imports, with the first line of each import.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, usize>>;

/// The imports between files of the workspace, except between a module and its descendants.
fn imports(modules: &Modules) -> Imports<'_> {
    let mut imports = Imports::new();
    for (id, module) in modules.iter() {
        let of_file = imports.entry(&*module.file).or_default();
        for path in &module.paths {
            let Target::Module(target) = modules.resolve(id, &path.segments) else { continue };
            if !modules.are_related(id, target) && modules.get(target).file != module.file {
                let line = of_file.entry(&*modules.get(target).file).or_insert(path.line);
                *line = path.line.min(*line);
            }
        }
    }
    imports
}

pub(super) fn check(modules: &Modules) -> Vec<Violation> {
    let imports = &imports(modules);
    let mut violations = Vec::new();
    let mut reported = BTreeSet::new();
    for &file in imports.keys() {
        let Some(circle) = shortest_circle(imports, file) else { continue };
        if circle.iter().any(|file| reported.contains(file)) {
            continue;
        }
        let mut what =
            "a circle of imports; move the items that both ends need below them:".to_owned();
        for (importer, imported) in circle.iter().zip(circle.iter().cycle().skip(1)) {
            let line = imports[importer][imported];
            what += &format!("\n    {importer}:{line} imports {imported}");
        }
        violations.push(Violation { path: file.to_owned(), line: 1, what });
        reported.extend(circle);
    }
    violations
}

/// The files on the shortest path from a file back to it.
fn shortest_circle<'a>(imports: &Imports<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for &imported in imports.get(file)?.keys() {
            if imported == start {
                let way = std::iter::successors(Some(file), |file| came_from.get(file).copied());
                let mut way: Vec<_> = way.collect();
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(imported) {
                came_from.insert(imported, file);
                queue.push_back(imported);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{super::SourceFile, *};

    fn imports_of(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        let modules = Modules::parse(&files).unwrap();
        let imports = imports(&modules);
        let edges = imports
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |(to, line)| format!("{from}:{line} {to}")));
        edges.collect()
    }

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        let modules = Modules::parse(&files).unwrap();
        check(&modules).into_iter().map(|found| found.what).collect()
    }

    #[test]
    fn a_circle_is_found_and_printed() {
        let found = circles(&[
            ("x/src/lib.rs", "mod a; mod b; mod c;"),
            ("x/src/a.rs", "\nuse crate::b::B;"),
            ("x/src/b.rs", "fn f() { super::c::g() }"),
            ("x/src/c.rs", "struct C { a: crate::a::A }"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        for line in ["x/src/a.rs:2 imports x/src/b.rs", "x/src/c.rs:1 imports x/src/a.rs"] {
            assert!(found[0].contains(line), "{found:?}");
        }
    }

    #[test]
    fn imports_in_one_direction_are_no_circle() {
        let found = circles(&[
            ("x/src/lib.rs", "mod a; mod b; mod c;"),
            ("x/src/a.rs", "use crate::{b::B, c::C};"),
            ("x/src/b.rs", "use crate::c::C; mod inner { use super::super::c; }"),
            ("x/src/c.rs", "pub struct C;"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn a_module_and_its_descendants_may_name_each_other() {
        let found = circles(&[
            ("x/src/main.rs", "mod a; use a::A; struct Root;"),
            ("x/src/a/mod.rs", "mod b; pub use b::A; struct Parent;"),
            ("x/src/a/b.rs", "use super::Parent; use crate::Root;"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn code_for_tests_does_not_count() {
        let found = circles(&[
            ("x/src/lib.rs", "mod a; mod b;"),
            ("x/src/a.rs", "use crate::b::B;"),
            (
                "x/src/b.rs",
                "#[cfg(test)] use crate::a::A;\n#[cfg(test)] mod tests { use crate::a::A; }\n\
                 impl B { #[cfg(test)] fn a() -> crate::a::A { crate::a::A } }\n\
                 // use crate::a::A;\nconst TEXT: &str = \"crate::a::A\";",
            ),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn re_exports_are_resolved_to_the_item() {
        let files = [
            ("x/Cargo.toml", "[package]\nname = \"an-x\"\n"),
            ("x/src/lib.rs", "pub mod a; mod user; pub use a::One as Uno;"),
            ("x/src/a/mod.rs", "mod b; mod c; pub use b::One; pub use self::c::*;"),
            ("x/src/a/b.rs", "pub struct One;"),
            ("x/src/a/c.rs", "pub struct Two;"),
            ("x/src/user.rs", "use crate::a::One;\nuse crate::a;\nfn f() { a::Two }"),
            ("x/tests/t.rs", "use an_x::Uno;"),
        ];
        assert_eq!(
            imports_of(&files),
            [
                "x/src/user.rs:1 x/src/a/b.rs",
                "x/src/user.rs:3 x/src/a/c.rs",
                "x/src/user.rs:2 x/src/a/mod.rs",
                "x/tests/t.rs:1 x/src/a/b.rs",
            ]
        );
    }

    #[test]
    fn paths_in_macros_and_derives_count() {
        let files = [
            ("x/src/lib.rs", "mod a; mod b; mod user;"),
            ("x/src/a.rs", ""),
            ("x/src/b.rs", ""),
            (
                "x/src/user.rs",
                "#[derive(crate::b::D)] struct S;\nfn f(x: u8) -> bool { vec![(x, crate::a::A)] }",
            ),
        ];
        assert_eq!(
            imports_of(&files),
            ["x/src/user.rs:2 x/src/a.rs", "x/src/user.rs:1 x/src/b.rs"]
        );
    }

    #[test]
    fn files_are_found_by_the_rules_of_rust() {
        let files = [
            ("x/tests/one/main.rs", "#[path = \"../kit/mod.rs\"] mod kit; mod two; use kit::K;"),
            ("x/tests/one/two.rs", "mod inner { use crate::kit::deep::D; }"),
            ("x/tests/kit/mod.rs", "pub mod deep; pub struct K; #[path = \"../a.rs\"] mod a;"),
            ("x/tests/kit/deep.rs", "mod deeper; pub struct D;"),
            ("x/tests/kit/deep/deeper.rs", ""),
            ("x/tests/a.rs", "mod b;"),
            ("x/tests/b.rs", ""),
        ];
        assert_eq!(imports_of(&files), ["x/tests/one/two.rs:1 x/tests/kit/deep.rs"]);
    }
}
