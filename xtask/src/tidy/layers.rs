//! What a part of the program may not name: the pure part nothing that reads or changes the
//! world, and every part no clock, no aya and no stdout but where those are at home.

use super::{
    Source, Violation,
    source::{Named, named},
};

struct Layer {
    /// Whether it holds for a file.
    holds_for: fn(&Source) -> bool,
    forbidden: &'static [&'static str],
    /// Why, and what to do.
    because: &'static str,
}

/// Names are paths, or ends, beginnings or middles of paths; a crate is a beginning (`aya::`), a
/// macro ends in `!`.
const LAYERS: [Layer; 4] = [
    Layer {
        holds_for: is_pure,
        forbidden: &[
            "std::fs",
            "std::io",
            "std::thread",
            "std::process",
            "std::env",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::sync::Condvar",
            "std::sync::mpsc",
            "std::sync::atomic",
            "std::sync::OnceLock",
            "std::sync::LazyLock",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "tokio::",
            "aya::",
            "nix::",
            "log::",
            "crate::clock",
            "Instant",
            "SystemTime::now",
        ],
        because: "the tracker and what decodes its input are pure, so that a replay gives the \
                  same figures: let it come in as input, or go out as a value",
    },
    Layer {
        holds_for: |file| is_user_side(file) && !file.is_below("tracer/src/kernel"),
        forbidden: &["aya::"],
        because: "only tracer/src/kernel knows aya, so that all the rest runs without a kernel: \
                  give it a function there",
    },
    Layer {
        holds_for: |file| {
            is_user_side(file)
                && !file.is_below("tracer/src/sink")
                && file.path != "tracer/src/message.rs"
        },
        forbidden: &["print!", "println!", "eprint!", "eprintln!", "dbg!"],
        because: "stdout is data, which sinks write, and all else is said by message::say, which \
                  makes it harmless: use one of them",
    },
    Layer {
        holds_for: |file| is_user_side(file) && file.path != "tracer/src/clock.rs",
        forbidden: &["Instant::now", "SystemTime::now", "clock_gettime"],
        because: "only tracer/src/clock.rs reads clocks, so that all agree on one: call it",
    },
];

fn is_user_side(file: &Source) -> bool {
    file.is_rust() && (file.is_below("tracer/src") || file.is_below("tracer-common/src"))
}

fn is_pure(file: &Source) -> bool {
    let alone = [
        "tracer/src/decode.rs",
        "tracer/src/flight/policy.rs",
        "tracer/src/input.rs",
        "tracer/src/source/surveyor.rs",
    ];
    file.is_rust() && (file.is_below("tracer/src/tracker") || alone.contains(&&file.path[..]))
}

pub(super) fn check(files: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files {
        let layers: Vec<_> = LAYERS.iter().filter(|layer| (layer.holds_for)(file)).collect();
        if layers.is_empty() {
            continue;
        }
        for named in named(&file.code()) {
            let broken = layers.iter().find_map(|layer| {
                layer.forbidden.iter().find(|name| names(&named, name)).map(|name| (layer, name))
            });
            if let Some((layer, name)) = broken {
                let what = format!("no `{name}` here: {}", layer.because);
                violations.push(Violation::new(file, named.line, what));
            }
        }
    }
    violations
}

/// Whether a path goes through `name`.
fn names(named: &Named, name: &str) -> bool {
    let path = &named.path;
    if let Some(name) = name.strip_suffix("::") {
        // A word alone may be a variable.
        return path.len() > 1 && path[0] == name;
    }
    let name: Vec<_> = name.split("::").collect();
    path.windows(name.len()).any(|part| part.iter().eq(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&[Source::new(path, text.as_bytes())]).iter().map(|found| found.line).collect()
    }

    #[test]
    fn the_pure_part_names_nothing_of_the_world() {
        let text = "use std::{\n    fs,\n    sync::{Arc, Mutex},\n};\nfn f(time: SystemTime) {}\n\
                    fn g() { tokio::spawn(h) }\nfn log(log: u8) { std::io::stdin(); }\n";
        assert_eq!(lines("tracer/src/tracker/walk.rs", text), [2, 3, 6, 7]);
        assert_eq!(lines("tracer/src/input.rs", text), [2, 3, 6, 7]);
        assert!(lines("tracer/src/source/live.rs", text).is_empty());
    }

    #[test]
    fn its_tests_and_comments_may() {
        let text = "//! As std::fs does.\nconst A: &str = \"std::fs\";\n\
                    #[cfg(test)]\nmod tests { use std::{fs, io}; }\n";
        assert!(lines("tracer/src/decode.rs", text).is_empty());
    }

    #[test]
    fn aya_clocks_and_stdout_are_where_they_belong() {
        let cases = [
            ("use aya::Ebpf;", "tracer/src/kernel/mod.rs"),
            ("fn f() { clock_gettime(a); }", "tracer/src/clock.rs"),
            ("fn f() { println!(); }", "tracer/src/sink/table.rs"),
        ];
        for (text, home) in cases {
            assert!(lines(home, text).is_empty(), "{text}");
            assert!(lines("tracer/tests/formats/bytes.rs", text).is_empty(), "{text}");
            assert_eq!(lines("tracer/src/app.rs", text), [1], "{text}");
        }
    }
}
