//! Names of well-known ports on this host, for display only.

use std::{collections::HashMap, fs, path::Path};

/// Maps a port to the name of its service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services(HashMap<u16, String>);

impl Services {
    /// Reads services(5). The result is empty if the file does not exist.
    pub(crate) fn of_this_host() -> Self {
        Self::in_file("/etc/services")
    }

    /// Reads a file in the format of services(5), whose comments and names may be in any encoding.
    fn in_file(path: impl AsRef<Path>) -> Self {
        Self::parse(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()))
    }

    fn parse(text: &str) -> Self {
        let mut services = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
            if let Some(port) = port.strip_suffix("/tcp").and_then(|port| port.parse().ok()) {
                services.entry(port).or_insert_with(|| name.to_owned());
            }
        }
        Self(services)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the port's service, or `None` if it has none.
    pub(crate) fn name(&self, port: u16) -> Option<&str> {
        self.0.get(&port).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_in_another_encoding_hides_no_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, b"# f\xfcr uns\nhttp 80/tcp\n").unwrap();
        assert_eq!(Services::in_file(&file).name(80), Some("http"));
        assert!(Services::in_file("/no/such/file").is_empty());
    }

    #[test]
    fn a_port_has_its_first_name_for_tcp() {
        let services = Services::parse(
            "# services\nhttp\t80/tcp www # WorldWideWeb\nwww 80/tcp\ndomain 53/udp\n\nbad line\n",
        );
        assert_eq!(services.name(80), Some("http"));
        assert_eq!([services.name(53), services.name(81)], [None, None]);
    }
}
