//! How results are written.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};

use crate::{
    host::services::Services,
    output::{Format, Style},
};

/// Options of the output.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// All columns
    #[arg(short, long)]
    pub(crate) wide: bool,
    /// No heading and no footer
    #[arg(short = 'H', long)]
    pub(crate) no_header: bool,
}

impl OutputArgs {
    /// The style, with the colours that the terminal and `NO_COLOR` allow.
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

/// How to write text for reading.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FormArgs {
    /// Form of the output
    #[arg(short = 'o', long = "output", value_name = "OUTPUT", value_enum, default_value_t)]
    pub(crate) form: Form,
}

/// Output format of the commands that print text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Paragraphs, for the eyes
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// How ports are written.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct NumericArgs {
    /// Do not tell ports by the names of their services
    #[arg(short, long)]
    numeric: bool,
}

impl NumericArgs {
    /// The names of this host's services, or none where numbers are asked for.
    pub(crate) fn services(self) -> Services {
        if self.numeric { Services::default() } else { Services::of_this_host() }
    }
}
