//! The groupings of rows in reports.

use crate::tcp::labels::Enumeration;

/// The property that identifies a row of a report, besides the role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The service port.
    #[default]
    Port,
    /// The service port, and for clients the address that they connect to.
    Remote,
    /// The owning process.
    Owner,
    /// The network namespace.
    Netns,
}

impl By {
    /// The names of all groupings.
    pub const NAMES: Enumeration = Enumeration {
        name: "grouping",
        all: || [Self::Port, Self::Remote, Self::Owner, Self::Netns].map(Self::name).into(),
    };

    /// The name in every output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Remote => "remote",
            Self::Owner => "owner",
            Self::Netns => "netns",
        }
    }
}
