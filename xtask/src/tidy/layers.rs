//! The layers of synfin: a directory of `tracer/src` imports only from lower layers, and the pure
//! layers at the bottom do no I/O.

use super::{
    SourceFile, Violation,
    modules::{Modules, Target},
};

const SOURCES: &str = "tracer/src/";

/// The directories of `tracer/src` (and its `main.rs`) from top to bottom. A row imports only from the
/// rows below it; directories in one row do not import each other.
const LAYERS: [&[&str]; 14] = [
    &["main.rs"],
    &["app"],
    &["command"],
    &["screen", "run"],
    &["cli"],
    &["source", "metrics", "analysis"],
    &["kernel", "output"],
    &["record"],
    &["host"],
    &["message"],
    &["findings"],
    &["tracker"],
    &["trace"],
    &["tcp"],
];

/// A rule about paths that files must not name.
struct Rule {
    /// The files and directories to which it applies.
    within: &'static [&'static str],
    /// Exceptions among those.
    except: &'static [&'static str],
    /// Forbidden paths, or prefixes of paths.
    forbidden: &'static [&'static str],
    because: &'static str,
}

const RULES: [Rule; 3] = [
    Rule {
        within: &[
            "tracer/src/tcp",
            "tracer/src/trace",
            "tracer/src/tracker",
            "tracer/src/findings",
            "tracer/src/source/scan_schedule.rs",
            "tracer/src/record/flight/retention.rs",
        ],
        except: &[],
        forbidden: &[
            "aya",
            "libc",
            "log",
            "nix",
            "socket2",
            "std::env",
            "std::fs",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::os",
            "std::process",
            "std::sync::Condvar",
            "std::sync::LazyLock",
            "std::sync::Mutex",
            "std::sync::OnceLock",
            "std::sync::RwLock",
            "std::sync::atomic",
            "std::sync::mpsc",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime::now",
            "tokio",
        ],
        because: "this part is pure, so that a recording gives the same results wherever and \
                  whenever it is read: pass the value in, or return one",
    },
    Rule {
        within: &[
            "tracer/src/tcp",
            "tracer/src/trace",
            "tracer/src/tracker",
            "tracer/src/findings",
        ],
        // They read from and write to their arguments only.
        except: &["tracer/src/trace/recording.rs", "tracer/src/trace/anonymize"],
        forbidden: &["std::io"],
        because: "this part is pure, so that a recording gives the same results wherever and \
                  whenever it is read: pass the value in, or return one",
    },
    Rule {
        within: &["tracer/src"],
        except: &["tracer/src/kernel"],
        forbidden: &["aya"],
        because: "only tracer/src/kernel uses aya, so that all the rest runs without a kernel: \
                  add a function there",
    },
];

pub(super) fn check(files: &[SourceFile], modules: &Modules) -> Vec<Violation> {
    let mut violations: Vec<_> = files.iter().filter_map(check_place).collect();
    for (id, module) in modules.iter() {
        let file = &*module.file;
        let rules = RULES.iter().filter(|rule| rule.holds_for(file)).collect::<Vec<_>>();
        for path in &module.paths {
            let what = match modules.resolve(id, &path.segments) {
                Target::Module(target) => points_up(file, &modules.get(target).file),
                Target::External(path) => {
                    let path = path.join("::");
                    let broken = rules.iter().find(|rule| rule.forbids(&path));
                    broken.map(|rule| format!("no `{path}` here: {}", rule.because))
                }
            };
            let violation = |what| Violation { path: file.into(), line: path.line, what };
            violations.extend(what.map(violation));
        }
    }
    violations.dedup();
    violations
}

/// Reports a file of `tracer/src` that is in none of the layers.
fn check_place(file: &SourceFile) -> Option<Violation> {
    let top = top_of(&file.path)?;
    if top == "lib.rs" || LAYERS.concat().contains(&top) {
        return None;
    }
    let what = format!("{top} is not a layer: see LAYERS in xtask/src/tidy/layers.rs");
    Some(Violation { path: file.path.clone(), line: 1, what })
}

/// The violation if a file of `tracer/src` imports from a layer that is not below its own.
fn points_up(file: &str, imported: &str) -> Option<String> {
    let (from, to) = (top_of(file)?, top_of(imported)?);
    let layer = |top| LAYERS.iter().position(|layer| layer.contains(&top));
    let is_allowed = from == to || to == "lib.rs" || layer(from)? < layer(to)?;
    (!is_allowed).then(|| {
        format!(
            "{from} imports {imported}, but {to} is not below {from}: move the imported item down"
        )
    })
}

/// The directory or file directly below `tracer/src`.
fn top_of(path: &str) -> Option<&str> {
    path.strip_prefix(SOURCES)?.split('/').next()
}

impl Rule {
    fn holds_for(&self, file: &str) -> bool {
        let is_in = |places: &[&str]| places.iter().any(|place| begins_with(file, place, "/"));
        is_in(self.within) && !is_in(self.except)
    }

    fn forbids(&self, path: &str) -> bool {
        self.forbidden.iter().any(|forbidden| begins_with(path, forbidden, "::"))
    }
}

/// Whether `path` is `prefix`, or begins with `prefix` and the separator.
fn begins_with(path: &str, prefix: &str, separator: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: (&str, &str) =
        ("tracer/src/lib.rs", "mod app; mod kernel; mod output; mod tracker;");

    fn broken(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        let empty = ["app", "kernel", "output", "tracker"]
            .map(|folder| (format!("tracer/src/{folder}/mod.rs"), ""));
        let empty = empty.iter().map(|(path, text)| (path.as_str(), *text));
        let given = |path: &str| files.iter().any(|(given, _)| *given == path);
        let files: Vec<_> = [LIB]
            .into_iter()
            .chain(empty)
            .filter(|(path, _)| !given(path))
            .chain(files.iter().copied())
            .map(|(path, text)| SourceFile::new(path, text))
            .collect();
        let modules = Modules::parse(&files).unwrap();
        check(&files, &modules).into_iter().map(|found| (found.path, found.line)).collect()
    }

    #[test]
    fn imports_go_down() {
        let down = "use crate::{kernel, output};\nuse crate::tracker::Tracker;";
        assert_eq!(broken(&[("tracer/src/app/mod.rs", down)]), []);
        let up = "use crate::tracker::Tracker;\nuse crate::app;\nfn f() { crate::output::g() }";
        let file = "tracer/src/kernel/mod.rs";
        assert_eq!(broken(&[(file, up)]), [(file.into(), 2), (file.into(), 3)]);
    }

    #[test]
    fn every_file_is_in_a_layer() {
        let stray = "tracer/src/stray.rs";
        assert_eq!(broken(&[(stray, "")]), [(stray.into(), 1)]);
        assert_eq!(broken(&[("tracer/src/main.rs", "fn main() {}")]), []);
    }

    #[test]
    fn the_pure_layers_do_no_io() {
        let file = "tracer/src/tracker/mod.rs";
        let text = "use std::{\n    fs,\n    sync::{Arc, Mutex},\n};\nfn f(time: SystemTime) {}\n\
                    fn g() { tokio::spawn(h) }\nfn log(log: u8) { std::io::stdin(); }\n\
                    use std::sync;\nfn h() { sync::mpsc::channel() }\n\
                    #[cfg(test)]\nmod tests { use std::{fs, io}; }\n";
        let lines: Vec<_> = broken(&[(file, text)]).into_iter().map(|(_, line)| line).collect();
        assert_eq!(lines, [2, 3, 6, 7, 9]);
        assert_eq!(broken(&[("tracer/src/output/mod.rs", text)]), []);
    }

    #[test]
    fn only_the_kernel_directory_uses_aya() {
        assert_eq!(broken(&[("tracer/src/kernel/mod.rs", "use aya::Ebpf;")]), []);
        let file = "tracer/src/app/mod.rs";
        assert_eq!(broken(&[(file, "use aya::Ebpf;")]), [(file.into(), 1)]);
    }
}
