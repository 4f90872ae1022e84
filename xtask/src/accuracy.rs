//! `cargo xtask accuracy`: plays every scenario of the accuracy laboratory again, with other tools
//! beside, keeps the recordings and what those tools said, and writes `docs/accuracy.md` from both.

use crate::{
    packages, root,
    workspace::{Workspace, find_program},
};

/// The tests that do it know what is to be kept, and what the page says.
const UPDATE: (&str, &str) = ("UPDATE_ACCURACY", "1");

/// What runs beside.
const OTHERS: [&str; 2] = ["tcpstates", "tcplife"];

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    if OTHERS.iter().any(|program| find_program(program).is_none()) {
        packages::install(&workspace.sh, &["libbpf-tools"], "comparisons with other tools")?;
    }
    let test = |name: &str| {
        let test = ["test", "--package", "synfin", "--profile", "testing", "--test", name];
        workspace.cargo().args(test).env(UPDATE.0, UPDATE.1)
    };
    let kernel = test("kernel").args(root::cargo_options("the accuracy laboratory")?);
    kernel.args(["--", "accuracy::"]).run()?;
    Ok(test("scenarios").args(["--", "accuracy::"]).run()?)
}
