//! `--help` of every command contains all texts of the command line's definition.
//! `docs/commands.md` is generated from the same definition.

use std::process::Command;

use clap::CommandFactory;
use synfin::{cli::Cli, message::exit::Exit};

/// The output of `synfin ARGS --help` with its whitespace normalized.
fn help(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synfin"));
    let command = command.args(args).arg("--help").env_remove("COLUMNS");
    let output = command.output().expect("synfin");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    without_blanks(&text)
}

fn without_blanks(text: &str) -> String {
    text.split_whitespace().collect()
}

#[track_caller]
fn assert_says(help: &str, text: &str) {
    assert!(help.contains(&without_blanks(text)), "no {text:?} in {help}");
}

#[test]
fn help_lists_every_command_and_exit_status() {
    let cli = Cli::command();
    let help = help(&[]);
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().expect("a command has a description");
        assert_says(&help, &format!("{} {about}", command.get_name()));
    }
    for exit in Exit::ALL {
        assert_says(&help, &format!("{} {}", exit.code(), exit.title()));
    }
}

#[test]
fn help_of_every_command_lists_its_arguments() {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = help(&[command.get_name()]);
        for argument in command.get_arguments() {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let names = argument.get_value_names().into_iter().flatten();
            let name = long.unwrap_or_else(|| names.map(clap::builder::Str::as_str).collect());
            if argument.is_hide_set() {
                assert!(!help.contains(&name), "{name} should be hidden: {help}");
                continue;
            }
            assert_says(&help, &name);
            let text = argument.get_long_help().or(argument.get_help());
            let text = text.expect("an argument has a description");
            assert_says(&help, &text.to_string());
            for value in argument.get_possible_values().iter().filter(|value| !value.is_hide_set())
            {
                assert_says(&help, value.get_name());
            }
        }
    }
}
