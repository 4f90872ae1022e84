//! Generates the page of commands, their arguments and the exit status.

use clap::{Arg, Command, CommandFactory};
use synfin::{cli::Cli, message::exit::Exit};

use super::markdown::{GENERATED, code, table};

/// Each command with its description and its own options.
pub(crate) fn in_brief() -> String {
    let cli = cli();
    let mut rows = Vec::new();
    for command in visible(&cli) {
        rows.push(vec![code(&usage(command).replace(" [OPTIONS]", "")), about(command)]);
        let options = arguments(command).filter(|arg| !arg.is_positional());
        for arg in options.filter(|arg| takers(&cli, arg) == 1) {
            let call = format!("synfin {} {}", command.get_name(), long_form(arg));
            rows.push(vec![code(&call), help(arg)]);
        }
    }
    table(&["command", "what it does"], rows)
}

/// The page with each command's arguments, and the exit status.
pub(crate) fn page() -> String {
    let cli = cli();
    let mut page = format!("{GENERATED}# Commands\n\n");
    page += &cli.get_long_about().expect("a description").to_string();
    page += "\n\nWithout a command, `synfin` is `synfin top`.\n";
    for command in visible(&cli) {
        page += &format!("\n## synfin {}\n\n{}.\n", command.get_name(), about(command));
        page += &format!("\n```text\n{}\n```\n\n", usage(command));
        let rows = arguments(command).map(|arg| vec![forms(arg), meaning(command, arg)]);
        page += &table(&["argument", "meaning"], rows);
    }
    page + "\n## Exit status\n\n" + &exit_status()
}

/// The exit status in short.
pub(crate) fn exit_status_in_brief() -> String {
    let rows = Exit::ALL.map(|exit| vec![exit.code().to_string(), exit.title().into()]);
    table(&["status", "meaning"], rows)
}

fn exit_status() -> String {
    let rows = Exit::ALL
        .map(|exit| vec![exit.code().to_string(), exit.title().into(), exit.meaning().into()]);
    table(&["status", "meaning", "when"], rows)
}

/// The command line's definition, completed.
pub(crate) fn cli() -> Command {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    cli
}

pub(crate) fn visible(cli: &Command) -> impl Iterator<Item = &Command> {
    cli.get_subcommands().filter(|command| !command.is_hide_set())
}

/// The arguments of a command without those that clap adds to each.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let of_clap = |arg: &Arg| matches!(arg.get_id().as_str(), "help" | "version");
    command.get_arguments().filter(move |arg| !arg.is_hide_set() && !of_clap(arg))
}

/// Number of commands that have this option, perhaps with other values.
fn takers(cli: &Command, option: &Arg) -> usize {
    let takes =
        |command: &&Command| arguments(command).any(|arg| arg.get_long() == option.get_long());
    visible(cli).filter(takes).count()
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").to_owned()
}

fn about(command: &Command) -> String {
    command.get_about().expect("every command has a description").to_string()
}

fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    help.unwrap_or_else(|| panic!("{} has no description", arg.get_id())).to_string()
}

/// The forms of an argument on the command line.
fn forms(arg: &Arg) -> String {
    if arg.is_positional() {
        let before = if arg.is_last_set() { "-- " } else { "" };
        return code(&format!("{before}{}", value_names(arg)));
    }
    let short = arg.get_short().map(|short| code(&format!("-{short}")));
    let long = arg.get_long().map(|_| code(&long_form(arg)));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

fn long_form(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_else(|| panic!("{} has no long form", arg.get_id()));
    let value = if arg.get_action().takes_values() { " " } else { "" };
    format!("--{long}{value}{}", value_names(arg))
}

fn value_names(arg: &Arg) -> String {
    if !arg.get_action().takes_values() {
        return String::new();
    }
    let many = arg.get_num_args().is_some_and(|number| number.max_values() > 1);
    let names: Vec<_> =
        arg.get_value_names().into_iter().flatten().map(clap::builder::Str::as_str).collect();
    names.join(" ") + if many { "…" } else { "" }
}

/// Description, possible values, default and conflicts.
fn meaning(command: &Command, arg: &Arg) -> String {
    let mut meaning = format!("{}.", help(arg));
    if !arg.get_action().takes_values() {
        return meaning + &exclusions(command, arg);
    }
    let values = arg.get_possible_values();
    if !values.is_empty() {
        let values = values.iter().filter(|value| !value.is_hide_set()).map(|value| {
            let help = value.get_help().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("{}{help}", code(value.get_name()))
        });
        meaning += &format!(" One of {}.", values.collect::<Vec<_>>().join(", "));
    }
    let defaults = arg.get_default_values().iter().map(|value| code(&value.to_string_lossy()));
    if let [default] = defaults.collect::<Vec<_>>().as_slice() {
        meaning += &format!(" By default {default}.");
    }
    meaning + &exclusions(command, arg)
}

fn exclusions(command: &Command, arg: &Arg) -> String {
    let excludes = |one: &Arg, other: &Arg| {
        let excluded = command.get_arg_conflicts_with(one);
        excluded.iter().any(|excluded| excluded.get_id() == other.get_id())
    };
    let others = arguments(command)
        .filter(|other| excludes(arg, other) || excludes(other, arg))
        .map(|other| if other.is_positional() { forms(other) } else { code(&long_form(other)) });
    match others.collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        [others @ .., last] if !others.is_empty() => {
            format!(" Not together with {} or {last}.", others.join(", "))
        }
        [only, ..] => format!(" Not together with {only}."),
    }
}
