//! `cargo xtask accuracy`: plays every accuracy scenario while synfin and other tools trace it, stores
//! synfin's recordings and the other tools' output, and writes `docs/accuracy.md` from both.

use crate::{
    packages, root,
    workspace::{Workspace, find_program},
};

/// The variable that makes the tests store the recordings and write the page.
const UPDATE: (&str, &str) = ("UPDATE_ACCURACY", "1");

/// The other tools.
const OTHERS: [&str; 2] = ["tcpstates", "tcplife"];

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    if OTHERS.iter().any(|program| find_program(program).is_none()) {
        packages::install(&workspace.sh, &["libbpf-tools"], "comparisons with other tools")?;
    }
    let test = |name: &str| {
        let test = ["test", "--package", "synfin", "--profile", "testing", "--test", name];
        workspace.cargo().args(test).env(UPDATE.0, UPDATE.1)
    };
    let kernel = test("kernel").args(root::cargo_options("the accuracy scenarios")?);
    kernel.args(["--", "accuracy::"]).run()?;
    Ok(test("scenarios").args(["--", "accuracy::"]).run()?)
}
