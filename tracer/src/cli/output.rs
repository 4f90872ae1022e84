//! Arguments for the output of commands.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};

use crate::{
    host::services::Services,
    output::{Format, Style},
};

/// Options of the output.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Print all columns
    #[arg(short, long)]
    pub(crate) wide: bool,
    /// Print neither heading nor footer
    #[arg(short = 'H', long)]
    pub(crate) no_header: bool,
}

impl OutputArgs {
    /// The output style. Colours are used on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn style(self) -> Style {
        let colourful = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style {
            format: self.output,
            wide: self.wide,
            no_header: self.no_header,
            terminal: io::stdout().is_terminal() && colourful,
        }
    }
}

/// Options of the commands that print text.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FormArgs {
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "OUTPUT", value_enum, default_value_t)]
    pub(crate) form: Form,
}

/// Output format of the commands that print text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Paragraphs
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Whether ports are printed by name.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct NumericArgs {
    /// Print port numbers instead of service names
    #[arg(short, long)]
    numeric: bool,
}

impl NumericArgs {
    /// The service names of this host; none with `--numeric`.
    pub(crate) fn services(self) -> Services {
        if self.numeric { Services::default() } else { Services::of_this_host() }
    }
}
